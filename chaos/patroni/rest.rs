//! What is said to Patroni over HTTP.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::place::REST;

/// The status and the body of an answer; it ends with the connection.
///
/// # Errors
/// As the system says, and if there is no answer in time or none that can be read.
pub(super) async fn ask(
    node: Ipv4Addr,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect((node, REST)).await?;
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(patience, asked).await??;
    parse(&answer).ok_or_else(|| io::Error::other(format!("no answer: {answer:?}")))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_status_and_the_body_are_told_apart() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\n{\"a\": 1}";
        assert_eq!(parse(answer), Some((503, "{\"a\": 1}".to_owned())));
        assert_eq!(parse("HTTP/1.0 200 OK\r\n"), None);
    }
}
