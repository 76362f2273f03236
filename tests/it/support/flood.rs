//! Many updates as fast as they are answered: bare HTTP/1.1 over connections that stay open.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    ops::Range,
    thread,
};

use super::receiver::PATIENCE;

const THREADS: u64 = 2;
const CONNECTIONS_EACH: u64 = 64;
/// Numbers that are equal modulo this travel on one connection, so in order.
pub const CONNECTIONS: u64 = THREADS * CONNECTIONS_EACH;

/// Posts the bodies of all numbers to the inlet `web` of the appliance whose inlets are at `place`; each is answered 200.
pub async fn flood(place: &str, numbers: Range<u64>, body: impl Fn(u64) -> String + Send + Sync + 'static) {
    let place = place.strip_prefix("http://").unwrap().to_owned();
    let posting = move || {
        let (place, body) = (&place, &body);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let numbers = numbers.clone();
                scope.spawn(move || {
                    let connect = |_| {
                        let stream = TcpStream::connect(place).unwrap();
                        stream.set_nodelay(true).unwrap();
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        BufReader::new(stream)
                    };
                    let mut connections: Vec<_> = (0..CONNECTIONS_EACH).map(connect).collect();
                    let first = (numbers.start / CONNECTIONS) * CONNECTIONS + thread * CONNECTIONS_EACH;
                    for round in (first..numbers.end).step_by(CONNECTIONS as usize) {
                        let here = (round..round + CONNECTIONS_EACH).filter(|number| numbers.contains(number));
                        for number in here.clone() {
                            post(&mut connections[(number % CONNECTIONS_EACH) as usize], &body(number));
                        }
                        for number in here {
                            read_200(&mut connections[(number % CONNECTIONS_EACH) as usize]);
                        }
                    }
                });
            }
        });
    };
    tokio::task::spawn_blocking(posting).await.unwrap();
}

fn post(connection: &mut BufReader<TcpStream>, body: &str) {
    let length = body.len();
    let head = "POST /collection/web HTTP/1.1\r\nhost: postern\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
}

fn read_200(connection: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    connection.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line != "\r\n" {
        line.clear();
        connection.read_line(&mut line).unwrap();
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    connection.read_exact(&mut vec![0; length]).unwrap();
}
