//! No kind of actor is forgotten here.

use std::collections::BTreeSet;

use crate::ALONE;
use crate::costly::COSTLY;
use crate::harmless::HARMLESS;
use crate::herald::Listener;
use crate::house::{self, House, paths, unnumbered};
use crate::load::Load;

/// Whoever makes a new kind of actor says what its crash costs, and shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_actor_has_its_crash() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let house = House::before(&server);
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
    assert_eq!(living, known.map(str::to_owned).collect());
    load.stop().await;
    house.end().await;
}
