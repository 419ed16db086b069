use super::place::{CLIENTS, DCS, NODES, node};

/// What does not pass between a node and others. Its own processes reach each other all the while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing does.
    All,
    /// Nothing comes in.
    In,
    /// Nothing goes out.
    Out,
    /// Nothing from and to pgherd and the clients.
    Clients,
    /// Nothing from and to etcd and the other nodes.
    Cluster,
}

impl Cut {
    /// Rules for `iptables` within the network of the node with this number.
    pub(super) fn rules(self, number: usize) -> Vec<Vec<String>> {
        let others = || {
            let rest = (0..NODES).filter(|other| *other != number).map(node);
            let all: Vec<String> = rest.chain([DCS]).map(|place| place.to_string()).collect();
            all.join(",")
        };
        let (from, to) = match self {
            Self::All => (Some(None), Some(None)),
            Self::In => (Some(None), None),
            Self::Out => (None, Some(None)),
            Self::Clients => (
                Some(Some(CLIENTS.to_string())),
                Some(Some(CLIENTS.to_string())),
            ),
            Self::Cluster => (Some(Some(others())), Some(Some(others()))),
        };
        let rule = |chain: &str, device: &str, side: &str, whom: Option<String>| {
            let mut words = vec!["-A".to_owned(), chain.to_owned()];
            words.extend([device.to_owned(), "eth0".to_owned()]);
            if let Some(whom) = whom {
                words.extend([side.to_owned(), whom]);
            }
            words.extend(["-j".to_owned(), "DROP".to_owned()]);
            words
        };
        let coming = from.map(|whom| rule("INPUT", "-i", "-s", whom));
        let going = to.map(|whom| rule("OUTPUT", "-o", "-d", whom));
        coming.into_iter().chain(going).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Cut;

    fn rules(cut: Cut) -> Vec<String> {
        let rules = cut.rules(1).into_iter();
        rules.map(|words| words.join(" ")).collect()
    }

    #[test]
    fn each_side_is_cut_where_it_is_said() {
        let (coming, going) = ("-A INPUT -i eth0 -j DROP", "-A OUTPUT -o eth0 -j DROP");
        assert_eq!(rules(Cut::All), [coming, going]);
        assert_eq!(rules(Cut::In), [coming]);
        assert_eq!(rules(Cut::Out), [going]);
    }

    #[test]
    fn the_right_ones_are_cut_off() {
        assert_eq!(
            rules(Cut::Clients),
            [
                "-A INPUT -i eth0 -s 10.87.0.100 -j DROP",
                "-A OUTPUT -o eth0 -d 10.87.0.100 -j DROP",
            ]
        );
        assert_eq!(
            rules(Cut::Cluster),
            [
                "-A INPUT -i eth0 -s 10.87.0.1,10.87.0.3,10.87.0.10 -j DROP",
                "-A OUTPUT -o eth0 -d 10.87.0.1,10.87.0.3,10.87.0.10 -j DROP",
            ]
        );
    }
}
