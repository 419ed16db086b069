//! The small parts: places in the log, epochs, names.

use proptest::prelude::{any, proptest};

use crate::{Epoch, HostName, Lsn};

#[test]
fn a_place_in_the_log_is_read_as_postgres_writes_it() {
    let lsn: Lsn = "16/B374D848".parse().unwrap();
    assert_eq!(lsn.as_u64(), 0x16_B374_D848);
    assert_eq!(lsn.to_string(), "16/B374D848");
    assert_eq!("0/0".parse::<Lsn>().unwrap().to_string(), "0/0");
    assert_eq!(lsn.ahead_of(Lsn::new(0x16_B374_D840)), 8);
    assert_eq!(Lsn::new(0).ahead_of(lsn), 0);
}

#[test]
fn what_is_no_place_in_the_log_is_refused() {
    let wrong = [
        "",
        "/",
        "1",
        "1/",
        "/1",
        "+1/1",
        "1/-1",
        "g/1",
        "1/2/3",
        " 1/1",
        "1/1 ",
        "123456789/0",
        "0/123456789",
        "0x1/0",
        "ä/1",
    ];
    for text in wrong {
        assert!(text.parse::<Lsn>().is_err(), "{text}");
    }
}

#[test]
fn the_number_of_an_epoch_rises_with_it() {
    let epoch = |timeline, counter| Epoch { timeline, counter };
    assert!(epoch(2, 0) > epoch(1, u32::MAX));
    assert!(epoch(2, 0).as_u64() > epoch(1, u32::MAX).as_u64());
    assert_eq!(epoch(1, 4).next(3), epoch(3, 0));
    assert_eq!(epoch(3, 0).next(3), epoch(3, 1));
    assert_eq!(epoch(3, 1).next(1), epoch(3, 2));
    assert!(epoch(3, u32::MAX).next(3) > epoch(3, u32::MAX));
    assert_eq!(epoch(3, 1).to_string(), "3.1");
}

#[test]
fn a_host_is_its_name() {
    assert_eq!(
        HostName::from("db:5432"),
        HostName::new("db:5432".to_owned())
    );
    assert_eq!(HostName::from("db:5432").as_str(), "db:5432");
}

proptest! {
    #[test]
    fn a_place_in_the_log_survives_being_written(bytes in any::<u64>()) {
        let lsn = Lsn::new(bytes);
        assert_eq!(lsn.to_string().parse::<Lsn>(), Ok(lsn));
    }

    #[test]
    fn the_next_epoch_is_higher(timeline in any::<u32>(), counter in any::<u32>(), next in any::<u32>()) {
        let epoch = Epoch { timeline, counter };
        if timeline < u32::MAX {
            assert!(epoch.next(next) > epoch);
            assert!(epoch.next(next).as_u64() > epoch.as_u64());
        }
    }
}
