//! How a server is brought for a moment to other settings, under which a text is to be read.

use super::{DATE_STYLE, Parameters, literal, push_call};

impl Parameters {
    /// A query of two rows: with the first, a server is set to these for its transaction, as far as they are among
    /// `names`, and what is not set here to what its session began with; with the second it is set back to what it was
    /// set to before, whatever that was. `None` if there are no names. It is made as that of [`Self::transition`].
    ///
    /// A part of a query that two others use is worked out once, before the first row of either.
    pub fn visit<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let (mut was, mut there, mut back) = (String::new(), String::new(), String::new());
        for (at, name) in names.into_iter().enumerate() {
            let (value, quoted) = (self.get(name), literal(name));
            let select = if at == 0 { "SELECT" } else { "," };
            was.push_str(&format!(
                "{select} pg_catalog.current_setting({quoted}) AS s{at}"
            ));
            back.push_str(&format!(
                "{select} pg_catalog.set_config({quoted}, s{at}, true)"
            ));
            if name == DATE_STYLE && value.is_some() {
                // As in a transition; both rows have as many columns.
                push_call(&mut there, name, None, true);
                back.push_str(", NULL");
            }
            push_call(&mut there, name, value, true);
        }
        (!was.is_empty())
            .then(|| format!("WITH was AS ({was}) {there} FROM was UNION ALL {back} FROM was"))
    }
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    #[test]
    fn a_visit_goes_there_and_back() {
        let mut there = Parameters::default();
        there.set("datestyle", "MDY");
        there.set("bytea_output", "esc'ape");
        assert_eq!(
            there.visit(["bytea_output", "xmloption"]).as_deref(),
            Some(
                "WITH was AS (SELECT pg_catalog.current_setting(E'bytea_output') AS s0, \
                 pg_catalog.current_setting(E'xmloption') AS s1) \
                 SELECT pg_catalog.set_config(E'bytea_output', E'esc''ape', true), \
                 pg_catalog.set_config(E'xmloption', NULL, true) FROM was UNION ALL \
                 SELECT pg_catalog.set_config(E'bytea_output', s0, true), \
                 pg_catalog.set_config(E'xmloption', s1, true) FROM was"
            )
        );
        let parts = there.visit(["datestyle"]).expect("it has a name");
        let (first, second) = parts.split_once(" UNION ALL ").expect("two rows");
        assert!(
            first.contains("E'datestyle', NULL, true), pg_catalog.set_config(E'datestyle', E'MDY'")
        );
        assert!(second.starts_with("SELECT pg_catalog.set_config(E'datestyle', s0, true), NULL "));
        assert_eq!(there.visit([]), None);
    }
}
