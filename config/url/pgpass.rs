use crate::host::{Address, Host};

/// Finds a password in the text of a `.pgpass` file; the first line that fits any host is taken.
/// <https://www.postgresql.org/docs/current/libpq-pgpass.html>
pub(super) fn find(text: &str, hosts: &[Host], dbname: &str, user: &str) -> Option<String> {
    hosts.iter().find_map(|host| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| {
                let [place, port, database, name, password] = fields(line)?;
                let fits = |field: &str, value: &str| field == "*" || field == value;
                let is_host = match &host.address {
                    Address::Tcp { host, port: at } => {
                        fits(&place, host) && fits(&port, &at.to_string())
                    }
                    Address::Unix { dir, port: at } => {
                        (fits(&place, "localhost") || dir.to_str() == Some(place.as_str()))
                            && fits(&port, &at.to_string())
                    }
                };
                (is_host && fits(&database, dbname) && fits(&name, user)).then_some(password)
            })
    })
}

/// Splits a line at colons, which `\` escapes; the password is all that is left.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields: [String; 5] = Default::default();
    let mut at = 0;
    let mut rest = line.trim_end_matches('\r').chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => fields[at].extend(rest.next()),
            ':' if at < 4 => at += 1,
            c => fields[at].push(c),
        }
    }
    (at == 4).then_some(fields)
}
