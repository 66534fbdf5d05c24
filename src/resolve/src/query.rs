use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// How long one server may think before the next is asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer that we ask for by UDP (what DNS operators agreed on in 2020, so that
/// nothing is fragmented); longer ones come by TCP.
const UDP_BYTES_MAX: u16 = 1232;

/// More records of one answer than anybody needs; the rest is not looked at.
const RECORDS_MAX: usize = 64;

/// What a validating name server says.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The AD bit: everything in the answer, "there is none" included, was validated (RFC 6840,
    /// section 5.8).
    pub(crate) secure: bool,
    /// The data of the type that was asked for, aliases followed; at most 64.
    pub(crate) data: Vec<RData>,
}

/// Asks the servers, one after the other until one gives a clear answer. A server that validates
/// says SERVFAIL to what is forged, so that is an error here and never "there is none".
pub(crate) async fn ask(
    servers: &[SocketAddr],
    name: &str,
    kind: RecordType,
    id: u16,
    deadline: Instant,
) -> Result<Answer, String> {
    let mut failure = "no name server is known".to_owned();
    for server in servers {
        let until = deadline.min(Instant::now() + SERVER_TIMEOUT);
        match timeout_at(until, ask_one(*server, name, kind, id)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(reason)) => failure = format!("{name} {kind}: {server}: {reason}"),
            Err(_) => failure = format!("{name} {kind}: {server} does not answer"),
        }
    }
    Err(failure)
}

async fn ask_one(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    id: u16,
) -> Result<Answer, String> {
    let name = Name::from_ascii(name).map_err(|error| error.to_string())?;
    let query = Query::query(name, kind);
    let question = question(&query, id)?;
    let mut message = by_udp(server, &query, &question, id).await?;
    if message.metadata.truncation {
        message = by_tcp(server, &query, &question, id).await?;
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::ServFail => {
            return Err("server failure, as for records that are not what was signed".into());
        }
        other => return Err(other.to_string()),
    }
    let answers = message.answers.into_iter().map(|record| record.data);
    let data = answers.filter(|data| data.record_type() == kind).take(RECORDS_MAX).collect();
    Ok(Answer { secure: message.metadata.authentic_data, data })
}

fn question(query: &Query, id: u16) -> Result<Vec<u8>, String> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX).set_version(0).set_dnssec_ok(true);
    message.set_edns(edns);
    message.to_vec().map_err(|error| error.to_string())
}

/// What is not an answer to this question is as if it had not come.
async fn by_udp(
    server: SocketAddr,
    query: &Query,
    question: &[u8],
    id: u16,
) -> Result<Message, String> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let told = |error: std::io::Error| error.to_string();
    // The system draws the port; connected, the socket takes datagrams of the server only.
    let socket = UdpSocket::bind((any, 0)).await.map_err(told)?;
    socket.connect(server).await.map_err(told)?;
    socket.send(question).await.map_err(told)?;
    let mut buffer = [0; UDP_BYTES_MAX as usize];
    loop {
        let len = socket.recv(&mut buffer).await.map_err(told)?;
        let answer = buffer.get(..len).and_then(|bytes| read(bytes, query, id));
        if let Some(message) = answer {
            return Ok(message);
        }
    }
}

async fn by_tcp(
    server: SocketAddr,
    query: &Query,
    question: &[u8],
    id: u16,
) -> Result<Message, String> {
    let told = |error: std::io::Error| format!("by TCP: {error}");
    let len = u16::try_from(question.len()).map_err(|_| "the question is too long".to_owned())?;
    let mut stream = TcpStream::connect(server).await.map_err(told)?;
    let framed = [&len.to_be_bytes(), question].concat();
    stream.write_all(&framed).await.map_err(told)?;
    let len = stream.read_u16().await.map_err(told)?;
    let mut buffer = vec![0; usize::from(len)];
    stream.read_exact(&mut buffer).await.map_err(told)?;
    match read(&buffer, query, id) {
        Some(message) if !message.metadata.truncation => Ok(message),
        Some(_) | None => Err("the answer by TCP cannot be used".into()),
    }
}

/// The answer to `query`, if `bytes` are one.
fn read(bytes: &[u8], query: &Query, id: u16) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let [echo] = message.queries.as_slice() else { return None };
    let fits = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && echo.name() == query.name()
        && echo.query_type() == query.query_type()
        && echo.query_class() == DNSClass::IN;
    fits.then_some(message)
}
