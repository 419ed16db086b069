//! No kind of actor is forgotten here.

use std::collections::BTreeSet;

use pgherd_sandbox::Server;

use crate::ALONE;
use crate::costly::COSTLY;
use crate::finders::{GUIDE, NAME, SCOUT, monitor};
use crate::harmless::HARMLESS;
use crate::herald::Listener;
use crate::house::{self, House, hosts, paths, unnumbered};
use crate::load::Load;
use crate::patroni::Patroni;
use crate::readers::{read_from, reader};

/// Whoever makes a new kind of actor says what its crash costs, and shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_actor_has_its_crash() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    known(House::before(&server), &[]).await;
}

/// The same where servers have to be found, and are read from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_actor_that_finds_or_reads_has_its_crash() {
    let _alone = ALONE.lock().await;
    let (primary, replica) = house::pair().await;
    let monitors = [monitor(&primary), monitor(&replica)];
    known(House::between(&primary, &replica), &monitors).await;

    let patroni = Patroni::start().await;
    let members = [
        (primary.port(), "leader", 1),
        (replica.port(), "replica", 1),
    ];
    patroni.tell(&members);
    let found = [&monitors[..], &[SCOUT.to_owned()]].concat();
    known(House::told_by(&patroni), &found).await;

    let named = House::of(&hosts(&[(NAME, primary.port())]), "");
    known(named, &[monitor(&primary), GUIDE.to_owned()]).await;

    let house = House::reading(&primary, &replica);
    read_from(&house, &replica).await;
    known(house, &[&monitors[..], &readers(&replica)].concat()).await;
}

fn readers(replica: &Server) -> [String; 2] {
    let reader = reader(replica);
    [format!("{reader}/*"), reader]
}

/// A house with clients has these kinds of actors beside those that every house has.
async fn known(house: House, more: &[String]) {
    let load = Load::start(&house, 2).await;
    let _listener = Listener::enter(&house).await;
    let address = format!(" {}", house.address);
    let living: BTreeSet<String> = paths(&house.living().await)
        .into_iter()
        .map(|path| {
            unnumbered(path.trim_end_matches(&address)).replace("sessions 0/*", "sessions 1/*")
        })
        .collect();
    let known = HARMLESS.into_iter().chain(COSTLY).chain(["root"]);
    let known = known.map(str::to_owned).chain(more.iter().cloned());
    assert_eq!(living, known.collect());
    load.stop().await;
    house.end().await;
}
