//! Arrays of keys, as texts and in their binary form.

/// What Postgres takes for white space in an array's text (`array_isspace`): other blanks of Unicode are part of
/// their element.
fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t'..='\r')
}

/// The elements of the text of an array of one dimension; None if it has another form.
pub(crate) fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inside = text
        .trim_matches(is_space)
        .strip_prefix('{')?
        .strip_suffix('}')?;
    let mut rest = inside.trim_start_matches(is_space);
    let mut found = Vec::new();
    if rest.is_empty() {
        return Some(found);
    }
    loop {
        let (element, behind) = element(rest)?;
        found.push(element);
        match behind.trim_start_matches(is_space).strip_prefix(',') {
            Some(next) => rest = next.trim_start_matches(is_space),
            None if behind.trim_start_matches(is_space).is_empty() => return Some(found),
            None => return None,
        }
    }
}

fn element(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => return Some((Some(value), &quoted[at + 1..])),
                '\\' => value.push(chars.next()?.1),
                char => value.push(char),
            }
        }
        return None;
    }
    let end = text.find(',').unwrap_or(text.len());
    let word = text[..end].trim_end_matches(is_space);
    if word.is_empty() || word.contains(['{', '}', '"', '\\']) {
        return None;
    }
    let value = (!word.eq_ignore_ascii_case("null")).then(|| word.to_owned());
    Some((value, &text[end..]))
}

/// The elements of the binary form of an array of one dimension, with the OID of their type; None if it has
/// another form.
pub(crate) fn binary(bytes: &[u8]) -> Option<(u32, Vec<Option<&[u8]>>)> {
    let mut rest = bytes;
    let mut word = || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(i32::from_be_bytes(*head))
    };
    let (dimensions, _nulls, oid) = (word()?, word()?, word()?);
    let oid = oid.cast_unsigned();
    if dimensions == 0 {
        return Some((oid, Vec::new()));
    }
    let (count, _lower) = (word()?, word()?);
    if dimensions != 1 {
        return None;
    }
    let mut found = Vec::new();
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        match i32::from_be_bytes(*head) {
            -1 => found.push(None),
            length => {
                let (value, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = tail;
                found.push(Some(value));
            }
        }
    }
    rest.is_empty().then_some((oid, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_arrays_are_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(elements("{}"), Some(vec![]));
        assert_eq!(
            elements("{1, 2 ,NULL}"),
            Some(vec![some("1"), some("2"), None])
        );
        assert_eq!(
            elements(r#"{"a,b","c\"d",""}"#),
            Some(vec![some("a,b"), some("c\"d"), some("")])
        );
        assert_eq!(
            elements("\u{b} { a\u{3000} ,\u{a0}, \u{85}b\t}\n"),
            Some(vec![some("a\u{3000}"), some("\u{a0}"), some("\u{85}b")])
        );
        for wrong in [
            "",
            "\u{a0}{1}",
            "{\"a\"\u{a0},b}",
            "1",
            "{{1},{2}}",
            "{1,}",
            "[0:1]={1,2}",
            "{\"a}",
            "{a\"b\"}",
        ] {
            assert_eq!(elements(wrong), None, "{wrong}");
        }
    }
}
