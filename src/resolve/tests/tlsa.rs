//! What a validating name server says about certificates, told by one that follows a script.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

use std::net::Ipv4Addr;

use gatehouse_resolve::{Resolver, Tlsa, TlsaAnswer, Transport};
use hickory_server::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_server::proto::rr::rdata::{A, SRV, TLSA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

const DATA: [u8; 32] = [7; 32];

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// An answer with everything in order and secure: `them.example` is at `host.example`:5269.
fn good(question: &Message) -> Message {
    let query = question.queries[0].clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.authentic_data = true;
    answer.metadata.recursion_available = true;
    let data = match query.query_type() {
        RecordType::SRV => Some(RData::SRV(SRV::new(0, 0, 5269, name("host.example.")))),
        RecordType::A => Some(RData::A(A(Ipv4Addr::LOCALHOST))),
        RecordType::TLSA => {
            let at = query.name().to_ascii();
            assert!(matches!(&*at, "_5269._tcp.host.example." | "_5269._tcp.them.example."));
            let (usage, matching) = (CertUsage::DaneEe, Matching::Sha256);
            Some(RData::TLSA(TLSA::new(usage, Selector::Spki, matching, DATA.to_vec())))
        }
        _ => None,
    };
    if let Some(data) = data {
        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    }
    answer.add_query(query);
    answer
}

fn secure() -> TlsaAnswer {
    TlsaAnswer::Secure(vec![Tlsa { usage: 3, selector: 1, matching: 1, data: DATA.to_vec() }])
}

/// Both protocols on one port. The system gives a free one of UDP, which TCP may be using.
async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..64 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// Asks about `them.example` at `host`, with a name server that sends, for each question, the
/// datagrams of `by_udp`, and over TCP the answer of `by_tcp`.
async fn ask_at(
    host: &str,
    by_udp: impl Fn(&Message) -> Vec<Vec<u8>>,
    by_tcp: impl Fn(&Message) -> Message,
) -> TlsaAnswer {
    let (udp, tcp) = sockets().await;
    let server = udp.local_addr().unwrap();
    let datagrams = async {
        let mut buffer = [0; 4096];
        loop {
            let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..len]).unwrap();
            let edns = question.edns.as_ref().unwrap();
            assert!(edns.flags().dnssec_ok && question.metadata.authentic_data);
            for datagram in by_udp(&question) {
                udp.send_to(&datagram, from).await.unwrap();
            }
        }
    };
    let streams = async {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let answer = by_tcp(&Message::from_vec(&question).unwrap()).to_vec().unwrap();
            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    };
    let resolver = Resolver::with_servers(&[server]).unwrap().trusting_ad(&[server]);
    let (domain, host) = ("them.example".parse().unwrap(), host.parse().unwrap());
    let mut id = 0x1234;
    let mut pick = |_| {
        id += 1;
        id
    };
    tokio::select! {
        answer = resolver.tlsa(&domain, &host, 5269, Transport::StartTls, &mut pick) => answer,
        () = datagrams => unreachable!(),
        () = streams => unreachable!(),
    }
}

async fn ask(by_udp: impl Fn(&Message) -> Vec<Vec<u8>>) -> TlsaAnswer {
    ask_at("host.example", by_udp, |_| panic!("nothing was truncated")).await
}

/// Everything is in order but what `bend` makes of answers of this type.
async fn bent(kind: RecordType, bend: impl Fn(&mut Message)) -> TlsaAnswer {
    ask(|question| {
        let mut answer = good(question);
        if question.queries[0].query_type() == kind {
            bend(&mut answer);
        }
        vec![answer.to_vec().unwrap()]
    })
    .await
}

#[tokio::test]
async fn records_count_if_every_step_to_them_is_secure() {
    assert_eq!(bent(RecordType::TLSA, |_| {}).await, secure());
    for kind in [RecordType::SRV, RecordType::TLSA] {
        let insecure = bent(kind, |answer| answer.metadata.authentic_data = false).await;
        assert_eq!(insecure, TlsaAnswer::Insecure, "{kind}");
    }
    let addresses = ask(|question| {
        let mut answer = good(question);
        let kind = question.queries[0].query_type();
        assert_ne!(kind, RecordType::TLSA, "not asked of a zone that is not signed");
        answer.metadata.authentic_data = kind == RecordType::SRV;
        vec![answer.to_vec().unwrap()]
    });
    assert_eq!(addresses.await, TlsaAnswer::Insecure);
}

#[tokio::test]
async fn no_records_are_no_dane() {
    let none = bent(RecordType::TLSA, |answer| answer.answers.clear()).await;
    assert_eq!(none, TlsaAnswer::Insecure);
    let no_name = bent(RecordType::TLSA, |answer| {
        answer.answers.clear();
        answer.metadata.response_code = ResponseCode::NXDomain;
    });
    assert_eq!(no_name.await, TlsaAnswer::Insecure);
}

#[tokio::test]
async fn what_cannot_be_validated_closes_the_target() {
    for kind in [RecordType::SRV, RecordType::TLSA] {
        for code in [ResponseCode::ServFail, ResponseCode::Refused] {
            let answer = bent(kind, |answer| answer.metadata.response_code = code).await;
            let TlsaAnswer::Failed(reason) = answer else { panic!("{kind} {code}: {answer:?}") };
            assert!(reason.contains(&kind.to_string()), "{reason}");
        }
    }
}

#[tokio::test]
async fn signed_records_that_do_not_lead_to_the_host_close_it() {
    let udp = |question: &Message| vec![good(question).to_vec().unwrap()];
    let elsewhere = ask_at("evil.example", udp, |_| panic!("TCP")).await;
    assert!(matches!(&elsewhere, TlsaAnswer::Failed(why) if why.contains("evil.example")));
    // Without SRV records the domain itself is the host.
    let none = |question: &Message| {
        let mut answer = good(question);
        if question.queries[0].query_type() == RecordType::SRV {
            answer.answers.clear();
        }
        vec![answer.to_vec().unwrap()]
    };
    assert_eq!(ask_at("them.example", none, |_| panic!("TCP")).await, secure());
}

#[tokio::test]
async fn a_truncated_answer_comes_by_tcp() {
    let cut = |question: &Message| {
        let mut answer = good(question);
        if question.queries[0].query_type() == RecordType::TLSA {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        vec![answer.to_vec().unwrap()]
    };
    assert_eq!(ask_at("host.example", cut, good).await, secure());
    let still_cut = |question: &Message| {
        let mut answer = good(question);
        answer.metadata.truncation = true;
        answer
    };
    let answer = ask_at("host.example", cut, still_cut).await;
    assert!(matches!(answer, TlsaAnswer::Failed(_)), "{answer:?}");
}

#[tokio::test]
async fn what_is_not_the_answer_is_not_heard() {
    let answer = ask(|question| {
        let mut forged = good(question);
        forged.answers.clear();
        let mut other_id = forged.clone();
        other_id.metadata.id ^= 1;
        let mut question_again = forged.clone();
        question_again.metadata.message_type = MessageType::Query;
        let mut other_name = forged.clone();
        other_name.queries[0].set_name(name("other.example."));
        let mut no_name = forged.clone();
        no_name.queries.clear();
        let whole = good(question).to_vec().unwrap();
        let mut sent: Vec<Vec<u8>> = [other_id, question_again, other_name, no_name]
            .iter()
            .map(|message| message.to_vec().unwrap())
            .collect();
        sent.extend([vec![], b"garbage".to_vec(), vec![0xff; 600], whole[..20].to_vec(), whole]);
        sent
    });
    assert_eq!(answer.await, secure());
}

#[tokio::test(start_paused = true)]
async fn silence_closes_the_target_in_time() {
    let started = tokio::time::Instant::now();
    let answer = ask(|_| Vec::new()).await;
    assert!(matches!(&answer, TlsaAnswer::Failed(why) if why.contains("does not answer")));
    assert!(started.elapsed().as_secs() <= 5);
}

#[tokio::test]
async fn nobody_is_asked_unless_the_setting_says_so() {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let resolver = Resolver::with_servers(&[udp.local_addr().unwrap()]).unwrap();
    let (domain, host) = ("them.example".parse().unwrap(), "host.example".parse().unwrap());
    let answer = resolver.tlsa(&domain, &host, 5269, Transport::StartTls, &mut |_| 0).await;
    assert_eq!(answer, TlsaAnswer::Insecure);
    assert!(udp.try_recv(&mut [0; 16]).is_err());
}
