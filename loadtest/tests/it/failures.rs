//! Servers that break connections, or are not there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use loadtest::{CancellationToken, Clients, Error, Plan, Progress, Target, Tokens};

use crate::server::{job, order_id, plan, run, tokens};

/// What a raw server does with one request.
enum Act {
    Answer,
    AnswerAndClose,
    Hangup,
}

/// Serves HTTP by hand, a thread a connection; `act` decides on the n-th request, counted from 0 over all connections.
/// The server sends to `closed` for every connection that it has closed.
fn serve_raw(act: impl Fn(u64) -> Act + Send + Sync + 'static, closed: Sender<()>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (act, count) = (Arc::new(act), Arc::new(AtomicU64::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (act, count, closed) = (act.clone(), count.clone(), closed.clone());
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                while read_request(&mut stream) {
                    let n = count.fetch_add(1, SeqCst);
                    let act = act(n);
                    if !matches!(act, Act::Hangup) {
                        let body = format!(r#"{{"order_id":"{}"}}"#, order_id(n));
                        let length = body.len();
                        let head = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {length}\r\n\r\n");
                        stream.write_all((head + &body).as_bytes()).unwrap();
                    }
                    if !matches!(act, Act::Answer) {
                        stream.shutdown(Shutdown::Both).unwrap();
                        let _ = closed.send(());
                        return;
                    }
                }
            });
        }
    });
    Target::parse(&url).unwrap()
}

/// Reads up to the end of the body that the load generator sends; `false` at the end of the connection.
fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(br#"{"quantity":1}"#) {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_fails_its_own_request_and_no_other() {
    let every_tenth = |n: u64| if n % 10 == 9 { Act::Hangup } else { Act::Answer };
    let target = serve_raw(every_tenth, mpsc::channel().0);
    let run = run(target, plan(200, Duration::from_millis(100))).await;
    let counts = run.counts();
    assert_eq!((counts.accepted, counts.connection_errors, counts.ended()), (180, 20, 200));
    assert!(run.connection_error.is_some());
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_fails_no_request() {
    let (closed, connections_closed) = mpsc::channel();
    let target = serve_raw(|_| Act::AnswerAndClose, closed);
    let mut clients = Clients::connect(target, 1).await.unwrap();
    for _ in 0..5 {
        let (progress, cancel) = (Progress::shared(), CancellationToken::new());
        let job = job(plan(1, Duration::ZERO));
        let run = loadtest::run(&mut clients, &job, &progress, &cancel).await.unwrap();
        assert_eq!(run.counts().accepted, 1, "{:?}", run.connection_error);
        connections_closed
            .recv_timeout(Duration::from_secs(10))
            .expect("the server closes after every answer");
        // The socket has the end of the connection now. There is one thread, so after a yield the runtime has read it.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_reported_before_the_run() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = Target::parse(&format!("http://{free}")).unwrap();
    let error = Clients::connect(target, 2).await.err().unwrap();
    assert!(matches!(error, Error::Connect { .. }));
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

#[tokio::test]
async fn a_buyer_without_a_token_is_reported_before_the_run() {
    let target = serve_raw(|_| Act::Answer, mpsc::channel().0);
    let mut clients = Clients::connect(target, 1).await.unwrap();
    let mut job = job(plan(3, Duration::ZERO));
    job.tokens = Tokens::from_list(["one", "two"]).unwrap();
    let run = loadtest::run(&mut clients, &job, &Progress::shared(), &CancellationToken::new()).await;
    assert!(matches!(run, Err(Error::TooFewTokens { tokens: 2, buyers: 3 })));
    let wrong = Plan { retry_ratio: 2.0, ..plan(3, Duration::ZERO) };
    job.tokens = tokens(&wrong);
    job.plan = wrong;
    let run = loadtest::run(&mut clients, &job, &Progress::shared(), &CancellationToken::new()).await;
    assert!(matches!(run, Err(Error::Plan { field: "retry_ratio", .. })));
}
