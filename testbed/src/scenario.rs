use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::play;
use crate::shape::Shape;
use crate::step::Line;
use crate::world::World;

/// A numbered folder: who takes part, what is said, what must happen.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// From the folder's name.
    pub(crate) number: u8,
    /// The folder's name.
    pub(crate) name: String,
    /// The folder.
    pub(crate) directory: PathBuf,
    /// `world.toml`.
    pub(crate) world: World,
    /// `play.txt`.
    pub(crate) play: Vec<Line>,
}

impl Scenario {
    /// Reads all scenarios below `directory`, or those whose number or name is in `wanted`.
    pub(crate) fn load_all(directory: &Path, wanted: &[String]) -> Result<Vec<Self>, Failure> {
        let entries = fs::read_dir(directory).map_err(Failure::io("read", directory))?;
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
            .collect();
        names.sort();
        for one in wanted {
            if !names.iter().any(|name| is_meant(name, one)) {
                return Err(Failure::world(format!("there is no scenario `{one}`; try --list")));
            }
        }
        names
            .iter()
            .filter(|name| wanted.is_empty() || wanted.iter().any(|one| is_meant(name, one)))
            .map(|name| Self::load(&directory.join(name), name))
            .collect()
    }

    fn load(directory: &Path, name: &str) -> Result<Self, Failure> {
        let number = name.split('-').next().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| Failure::Scenario {
            file: directory.to_owned(),
            what: "the folder's name must begin with a number and a dash".into(),
        })?;
        Ok(Self {
            number,
            name: name.to_owned(),
            directory: directory.to_owned(),
            world: World::load(&directory.join("world.toml"))?,
            play: play::load(&directory.join("play.txt"))?,
        })
    }

    /// The shapes it is played in.
    pub(crate) fn shapes(&self, only: Option<Shape>) -> Vec<Shape> {
        if self.world.us.is_none() {
            return vec![Shape::None];
        }
        let mut shapes = vec![Shape::One, Shape::Two];
        shapes.retain(|shape| [only, self.world.shape].iter().flatten().all(|one| one == shape));
        shapes
    }

    /// The sentence under the README's title.
    pub(crate) fn purpose(&self) -> String {
        let readme = fs::read_to_string(self.directory.join("README.md")).unwrap_or_default();
        let lines = readme.lines().skip_while(|line| line.starts_with('#') || line.is_empty());
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

fn is_meant(name: &str, wanted: &str) -> bool {
    name == wanted || name.split('-').next() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scenario that cannot be read is found here, not in the middle of a long run.
    #[test]
    fn every_scenario_is_readable_and_says_what_it_proves() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let scenarios = Scenario::load_all(&folder, &[]).unwrap();
        assert!(!scenarios.is_empty());
        for pair in scenarios.windows(2) {
            assert!(pair[0].number < pair[1].number, "{}: its number is taken", pair[1].name);
        }
        for scenario in scenarios {
            assert!(!scenario.purpose().is_empty(), "{} has no purpose", scenario.name);
        }
    }

    #[test]
    fn scenarios_are_meant_by_number_or_name() {
        assert!(is_meant("03-direct-tls", "03"));
        assert!(is_meant("03-direct-tls", "03-direct-tls"));
        assert!(!is_meant("03-direct-tls", "3x"));
        assert!(!is_meant("13-direct-tls", "3"));
    }
}
