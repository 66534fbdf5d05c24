use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(3);

/// The body of one page of an admin port, or nothing if it cannot be had.
pub(crate) fn fetch(address: SocketAddr, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect_timeout(&address, WITHIN).ok()?;
    connection.set_read_timeout(Some(WITHIN)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
