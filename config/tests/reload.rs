use super::Place;
use crate::{Change, Config, Effect};

fn change(path: &str, old: Option<&str>, new: Option<&str>, effect: Effect) -> Change {
    let text = |text: &str| text.to_owned();
    Change {
        path: path.to_owned(),
        old: old.map(text),
        new: new.map(text),
        effect,
    }
}

#[test]
fn shows_what_differs() {
    let old = Place::with(
        "[pool]\nsize = 5\n[databases.a]\nhosts = [\"x\"]\n[users.u]\npassword = \"one\"\n\
         [users.v]\nconsole = \"reader\"\n",
    );
    let new = Place::with(
        "[listen]\nbacklog = 9\n[pool]\nsize = 6\n[timeouts]\nquery = \"5s\"\n\
         [databases.a]\nhosts = [\"x\", \"y\"]\npool = { size = 2 }\n[users.u]\npassword = \"two\"\n",
    );
    let (old, new) = (old.config(), new.config());
    assert_eq!(Config::diff(&old, &old), []);
    let masked = Some("********");
    let next = Effect::NextConnection;
    assert_eq!(
        Config::diff(&old, &new),
        [
            change(
                "databases.a.hosts",
                Some("x:5432"),
                Some("x:5432, y:5432"),
                next
            ),
            change("databases.a.pool.size", None, Some("2"), next),
            change("listen.backlog", Some("1024"), Some("9"), Effect::Restart),
            change("pool.size", Some("5"), Some("6"), Effect::Now),
            change("timeouts.query", Some("0"), Some("5s"), Effect::Now),
            change("users.u.password", masked, masked, next),
            change("users.v.console", Some("reader"), None, next),
        ]
    );
    assert!(!format!("{new:?}").contains("two"));
}

#[test]
fn shows_what_differs_in_the_files_that_settings_name() {
    let text =
        "[auth]\nhba_file = \"hba\"\nident_file = \"ident\"\n[databases.a]\nhosts = [\"x\"]\n";
    let place = Place::with(text);
    place.write(
        "hba",
        "local all all trust\nhost all all 10.0.0.0/8 scram-sha-256\n",
    );
    place.write("ident", "staff root postgres\n");
    let old = place.config();
    place.write("hba", "# no more than that\nlocal all all trust\n");
    place.write("ident", "staff root postgres\nstaff /^(.*)@x$ \\1\n");
    let next = Effect::NextConnection;
    assert_eq!(
        Config::diff(&old, &place.config()),
        [
            change(
                "auth.hba_file[2]",
                Some("host all all 10.0.0.0/8 scram-sha-256"),
                None,
                next
            ),
            change(
                "auth.ident_file[2]",
                None,
                Some("\"staff\" /^(.*)@x$ \"\\\\1\""),
                next
            ),
        ]
    );
}

#[test]
fn shows_all_settings() {
    let place = Place::with("[pool]\nsize = 5\n[databases.a]\nhosts = [\"x\"]\n");
    let lines = place.config().show();
    let line = |key: &str| lines.iter().find(|line| line.key == key).unwrap();
    let size = line("pool.size");
    assert_eq!(
        (&*size.value, &*size.default, size.changeable),
        ("5", "20", true)
    );
    let listen = line("listen.addresses");
    assert_eq!(
        (&*listen.value, listen.changeable),
        ("127.0.0.1:6432", false)
    );
    assert_eq!(line("timeouts.server_lifetime").value, "1h");
    assert_eq!(line("auth.method").value, "scram-sha-256");
}
