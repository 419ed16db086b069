//! Too many, too slow, too long.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pgherd_chaos::hostile::attack::{Attack, Expect, Opening, Step};
use pgherd_chaos::hostile::{Client, End, Proxy, Server, packet};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{ALICE, AT_ONCE, House, assert_served, eventually, is_refused};

const SHORT: &str = "[timeouts]\nlogin = \"1s\"\n";

#[tokio::test]
async fn whoever_does_not_log_in_is_cut_off() {
    let mut house = House::with(SHORT, Vec::new()).await;
    let started = Instant::now();
    let startup = packet::startup(&[("user", "alice"), ("database", "shop")]);
    let mut silent = house.connect().await;
    let mut half = house.connect().await;
    half.send(&startup[..10]).await.unwrap();
    let mut asked = house.connect().await;
    asked.send(&startup).await.unwrap();
    assert_eq!(asked.hear().await.end, End::Asked(10));
    let mut plain = house.connect().await;
    plain.send(&packet::ssl_request()).await.unwrap();
    assert_eq!(plain.byte().await, Some(b'N'));
    for client in [&mut silent, &mut half, &mut asked, &mut plain] {
        assert!(client.rest().await.is_some());
    }
    assert!(started.elapsed() < AT_ONCE);
    house.stands().await;
}

#[tokio::test]
async fn one_byte_at_a_time_gains_no_time() {
    let mut house = House::with(SHORT, Vec::new()).await;
    let started = Instant::now();
    let mut client = house.connect().await;
    let long = "x".repeat(5000);
    for byte in packet::startup(&[("user", "alice"), ("application_name", &long)]) {
        if client.send(&[byte]).await.is_err()
            || !client.stays_quiet(Duration::from_millis(20)).await
        {
            break;
        }
    }
    assert!(
        started.elapsed() > Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    house.stands().await;
}

/// Whoever has begun to log in keeps its place until its time is up, and is as many as may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_in_the_middle_of_their_login_cost_little_and_the_next_is_told() {
    let settings = "[timeouts]\nlogin = \"30s\"\n[limits]\nmax_logins = 1000\n";
    let mut house = House::with(settings, Vec::new()).await;
    let mut established = house.login().await;
    let (memory, descriptors) = (house.proxy.memory(), house.proxy.descriptors());
    let mut idle = Vec::new();
    let startup = packet::startup(&[("user", "nobody"), ("database", "nowhere")]);
    for number in 0..1000 {
        let mut client = house.connect().await;
        client.send(&startup).await.unwrap();
        assert_eq!(client.hear().await.end, End::Asked(10), "{number}");
        idle.push(client);
    }
    assert!(eventually(|| house.proxy.descriptors() >= descriptors + 1000).await);
    let each = house.proxy.memory().saturating_sub(memory) / 1000;
    assert!(each < 40 << 10, "{each} bytes for each");
    assert_served(&mut established).await;
    let mut one_more = house.connect().await;
    one_more.send(&startup).await.unwrap();
    let answer = one_more.hear().await;
    assert!(is_refused(&answer, "53300"), "{answer:?}");
    drop(idle);
    assert!(
        house.proxy.shrinks_to(descriptors + 1).await,
        "{}",
        house.proxy.descriptors()
    );
    house.stands().await;
}

const SILENT: usize = 10_000;

/// All places are taken by those who say nothing, and who does say something is let in at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_silent_clients_cost_little_and_keep_nobody_out() {
    raise_descriptor_limit();
    let settings = format!(
        "[timeouts]\nlogin = \"10m\"\n[limits]\nmax_logins = {SILENT}\nmax_clients = {}\n",
        2 * SILENT
    );
    let mut house = House::with(&settings, Vec::new()).await;
    let mut established = house.login().await;
    let (memory, descriptors) = (house.proxy.memory(), house.proxy.descriptors());
    let mut silent = VecDeque::new();
    for _ in 0..SILENT {
        silent.push_back(house.connect().await);
    }
    assert!(eventually(|| house.proxy.descriptors() >= descriptors + SILENT).await);
    let each = house.proxy.memory().saturating_sub(memory) / SILENT;
    assert!(each < 40 << 10, "{each} bytes for each");
    assert_served(&mut established).await;
    // Those who have begun to log in keep the places that they get, so that all are taken each time.
    let startup = packet::startup(&[("user", "alice"), ("database", "shop")]);
    let (mut begun, mut longest) = (Vec::new(), Duration::ZERO);
    for round in 0..4 {
        let began = Instant::now();
        let mut client = house.connect().await;
        client.send(&startup).await.unwrap();
        assert_eq!(client.hear().await.end, End::Asked(10), "{round}");
        longest = longest.max(began.elapsed());
        begun.push(client);
        // That which has been silent the longest has made room, and was told nothing it could misread.
        let heard = silent.pop_front().expect("ten thousand").rest().await;
        assert_eq!(heard.as_deref(), Some(&b""[..]), "{round}");
    }
    let began = Instant::now();
    let mut client = house.login().await;
    assert_served(&mut client).await;
    longest = longest.max(began.elapsed());
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let heard = silent.pop_front().expect("ten thousand").rest().await;
    assert_eq!(heard.as_deref(), Some(&b""[..]));
    assert!(
        silent[0].stays_quiet(Duration::from_millis(10)).await,
        "the others were left alone"
    );
    assert!(
        eventually(|| {
            let told = house.proxy.output();
            told.matches("(max_logins)").count() == 5
        })
        .await,
        "each that made room is in the log"
    );
    drop((silent, begun, client));
    assert!(
        house.proxy.shrinks_to(descriptors + 1).await,
        "{}",
        house.proxy.descriptors()
    );
    house.stands().await;
}

/// Raises the limit of open files as far as allowed; a test that needs more says so by failing.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The longest that a client waited for an answer while something went on.
async fn longest_wait(client: &mut Client, going_on: impl Fn() -> bool) -> Duration {
    let mut longest = Duration::ZERO;
    while going_on() {
        let asked = Instant::now();
        assert_served(client).await;
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    longest
}

/// A login that fails at its proof, which costs its client nothing.
async fn cheap_failure(address: SocketAddr, user: &str) -> Option<String> {
    let mut client = Client::connect(address).await.ok()?;
    let startup = packet::startup(&[("user", user), ("database", "shop")]);
    client.send(&startup).await.ok()?;
    client.hear().await;
    let first = packet::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnop");
    client.send(&first).await.ok()?;
    let challenge = client.hear().await;
    let body = challenge.messages.last()?.body.get(4..)?.to_vec();
    let challenge = String::from_utf8(body).ok()?;
    let nonce = challenge.split(',').next()?;
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let last = packet::sasl_response(format!("c=biws,{nonce},p={proof}").as_bytes());
    client.send(&last).await.ok()?;
    client.hear().await.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_logins_leaves_established_clients_served() {
    let mut house = House::build().await;
    let mut established = house.login().await;
    let address = house.proxy.address();
    let until = Instant::now() + Duration::from_secs(2);
    let storm: Vec<_> = (0..100)
        .map(|number| {
            let user = if number % 2 == 0 { "alice" } else { "nobody" };
            tokio::spawn(async move {
                let mut tried = 0;
                while Instant::now() < until {
                    let code = cheap_failure(address, user).await;
                    assert_eq!(code.as_deref(), Some("28P01"));
                    tried += 1;
                }
                tried
            })
        })
        .collect();
    let longest = longest_wait(&mut established, || Instant::now() < until).await;
    let mut tried = 0;
    for one in storm {
        tried += one.await.unwrap();
    }
    assert!(
        longest < Duration::from_millis(500),
        "{longest:?} with {tried} logins"
    );
    assert!(tried > 200, "{tried} logins are no storm");
    house.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_harms_nobody() {
    let row = packet::row(&"x".repeat(8000));
    let steps = vec![
        Step::Send(packet::columns()),
        Step::Flood(row, 20_000),
        Step::Send([packet::complete("SELECT 20000"), packet::ready(b'I')].concat()),
    ];
    let large = Attack {
        name: "large",
        steps,
        expect: Expect::Passed,
    };
    let mut house = House::with("[timeouts]\nrollback = \"500ms\"\n", vec![large]).await;
    let mut others = house.login().await;
    let (memory, descriptors) = (house.proxy.memory(), house.proxy.descriptors());
    let mut readers = Vec::new();
    for _ in 0..10 {
        let mut client = house.login().await;
        client.send(&packet::query("select 'large'")).await.unwrap();
        readers.push(client);
    }
    let until = Instant::now() + Duration::from_millis(1500);
    let longest = longest_wait(&mut others, || Instant::now() < until).await;
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let grown = house.proxy.memory().saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes for ten that do not read");
    // One of them reads after all, and gets everything.
    let mut late = readers.pop().expect("ten of them");
    late.set_patience(Duration::from_secs(30));
    let answer = late.hear().await;
    assert_eq!(
        answer
            .messages
            .iter()
            .filter(|message| message.tag == b'D')
            .count(),
        20_000
    );
    drop((readers, late));
    assert!(
        house.proxy.shrinks_to(descriptors + 10).await,
        "{}",
        house.proxy.descriptors()
    );
    house.stands().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_cancel_keys_cancels_nothing_and_says_nothing() {
    let sleeps = Attack {
        name: "sleeps",
        steps: vec![Step::Hang],
        expect: Expect::Any,
    };
    let mut house = House::with("[timeouts]\nlogin = \"15s\"\n", vec![sleeps]).await;
    let address = house.proxy.address();
    let mut other = house.login().await;
    let mut victim = Client::connect(address).await.unwrap();
    let parameters = [("user", "alice"), ("database", "shop")];
    assert_eq!(
        victim.authenticate(ALICE, &parameters).await.end,
        End::Ready(b'I')
    );
    victim
        .send(&packet::query("select 'sleeps'"))
        .await
        .unwrap();
    let descriptors = house.proxy.descriptors();
    let (pid, secret) = victim.key().expect("a key");
    let secret = secret.to_vec();
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    let keys = [
        (pid, wrong),
        (pid, secret[..secret.len() - 1].to_vec()),
        (pid, [&secret[..], &[0]].concat()),
        (pid, vec![0; 4]),
        (pid, vec![0; 256]),
        (pid, vec![0; 257]),
        (pid.wrapping_add(1), secret.clone()),
        (0, secret.clone()),
    ];
    let flood: Vec<_> = (0..20)
        .map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move {
                for (pid, secret) in keys.iter().cycle().take(100) {
                    let mut client = Client::connect(address).await.unwrap();
                    client.send(&packet::cancel(*pid, secret)).await.unwrap();
                    let said = client.rest().await.expect("an end");
                    // Only a key that no protocol allows is answered, as a broken packet.
                    let impossible = !(4..=256).contains(&secret.len());
                    assert!(said.is_empty() || impossible, "{}", said.escape_ascii());
                }
            })
        })
        .collect();
    for one in flood {
        one.await.unwrap();
    }
    assert_served(&mut other).await;
    assert_eq!(house.server.cancels(), 0);
    assert!(victim.stays_quiet(Duration::from_millis(100)).await);
    assert!(house.proxy.shrinks_to(descriptors + 2).await);
    // The right one gets through.
    let mut client = Client::connect(address).await.unwrap();
    client.send(&packet::cancel(pid, &secret)).await.unwrap();
    assert_eq!(client.rest().await.as_deref(), Some(&b""[..]));
    assert_eq!(house.server.cancels(), 1);
    house.stands().await;
}

/// Only a named database makes a pool before a client has proved anything.
#[tokio::test]
async fn strangers_open_no_pool_for_each_name_they_make_up() {
    let settings = "[auth]\nquery = \"select 'x' where $1 = ''\"\nquery_user = \"keeper\"\n\
                    [users.keeper]\npassword = \"k\"\n";
    let server = Server::start(Opening::Trust, Vec::new()).await.unwrap();
    let settings = format!(
        "{settings}[databases.\"*\"]\nhosts = [\"{}\"]\ntls = {{ mode = \"disable\" }}\n",
        server.address()
    );
    let mut proxy = Proxy::start(crate::EXECUTABLE, &settings).await.unwrap();
    for number in 0..50 {
        let database = format!("made up {number}");
        let login = Client::login(proxy.address(), "stranger", "x", &database).await;
        assert!(login.is_err());
    }
    assert!(
        server.logins() <= 10,
        "{} connections to the server",
        server.logins()
    );
    assert_eq!(proxy.fault(), None);
}
