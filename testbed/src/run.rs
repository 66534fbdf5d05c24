use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::block::Block;
use crate::clock::now;
use crate::failure::Failure;
use crate::nodes::Lab;
use crate::player::Player;
use crate::scenario::Scenario;
use crate::shape::Shape;
use crate::sip;
use crate::stage::{Paths, Stage};
use crate::verdict;

/// After this a scenario begins no further step.
const SCENARIO_WITHIN: Duration = Duration::from_secs(90);

/// What came of one scenario in one shape.
pub(crate) struct Outcome {
    /// The scenario's name.
    pub(crate) name: String,
    /// The shape.
    pub(crate) shape: Shape,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it counted.
    pub(crate) told: Vec<String>,
    /// Why it failed, if it did.
    pub(crate) failure: Option<Failure>,
    /// Where its logs are, if they were kept.
    pub(crate) kept: Option<PathBuf>,
}

/// Runs one scenario in one shape. Logs are kept if it fails, or if `keep` says so.
pub(crate) fn run(scenario: &Scenario, shape: Shape, paths: &Paths, keep: bool) -> Outcome {
    let begin = now();
    let directory = paths.runs.join(format!("{}-{}-{}", scenario.name, shape, std::process::id()));
    let mut told = Vec::new();
    let failure = attempt(scenario, shape, &directory, paths, &mut told).err();
    let kept = (failure.is_some() || keep).then(|| directory.clone());
    if kept.is_none() {
        // Left-overs do not make a passed scenario a failed one.
        let _left = fs::remove_dir_all(&directory);
    }
    Outcome { name: scenario.name.clone(), shape, took: begin.elapsed(), told, failure, kept }
}

fn attempt(
    scenario: &Scenario,
    shape: Shape,
    directory: &Path,
    paths: &Paths,
    told: &mut Vec<String>,
) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
    let block = Block::claim(scenario.number, shape)?;
    let deadline = now() + SCENARIO_WITHIN;
    let mut stage = Stage::set(&scenario.world, block, shape, directory, paths)?;
    let played = Player::new(&mut stage, scenario, deadline).play(shape);
    let closed = played.and_then(|()| stage.close());
    told.extend(stage.lab.as_mut().map(Lab::told).unwrap_or_default());
    closed?;
    for (address, sip) in (sip::FIRST_SIP..).zip(&scenario.world.sips) {
        // Those inside may see the inside.
        if !scenario.world.is_inside(sip) {
            sip::judge(sip, address, &stage.block, directory)?;
        }
    }
    match &scenario.world.us {
        Some(us) => verdict::judge(us, &stage),
        None => Ok(()),
    }
}
