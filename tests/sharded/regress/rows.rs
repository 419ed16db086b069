//! Rows as the regression scripts load them: of the size and shape of PostgreSQL's own files, which are not here.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Writes all files into a folder.
pub(super) fn write(folder: &Path) {
    for (name, text) in [
        ("onek", wisconsin(1000)),
        ("tenk", wisconsin(10_000)),
        ("agg", AGG.to_owned()),
        ("array", arrays()),
        ("person", PERSON.to_owned()),
        ("emp", EMP.to_owned()),
        ("student", STUDENT.to_owned()),
        ("stud_emp", STUD_EMP.to_owned()),
        ("streets", STREETS.to_owned()),
        ("jsonb", jsonb()),
    ] {
        fs::write(folder.join(name).with_extension("data"), text).unwrap();
    }
}

const AGG: &str = "56\t7.8\n100\t99.097\n0\t0.09561\n42\t324.78\n";
const PERSON: &str =
    "mike\t40\t(3.1,6.2)\njoe\t20\t(5.5,2.5)\nsally\t34\t(3.8,45.8)\nsandra\t19\t(9.345,0.09)\n";
const EMP: &str = "sharon\t25\t(15,12)\t1000\tsam\nsam\t30\t(10,5)\t2000\tbill\nbill\t20\t(11,10)\t1000\tsharon\n";
const STUDENT: &str = "fred\t28\t(3.1,-1.5)\t3.7\nlarry\t60\t(21.8,4.9)\t3.1\n";
const STUD_EMP: &str =
    "jeff\t23\t(8,7.7)\t600\tsharon\t3.5\t\\N\ncim\t30\t(10.5,4.7)\t400\t\\N\t3.4\t\\N\n";
const STREETS: &str =
    "Access Rd 25\t[(-121.92,37.89),(-121.9,37.9)]\nI- 580\t[(-122.1,37.7),(-122.2,37.8)]\n";

/// The Wisconsin benchmark's rows: `unique1` without an order, and what is computed of it.
fn wisconsin(rows: u32) -> String {
    let mut text = String::new();
    let strings = ["AAAAxx", "HHHHxx", "OOOOxx", "VVVVxx"];
    for second in 0..rows {
        let first = (second * 7919 + 8800) % rows;
        let numbers = [2, 4, 10, 20, 100, 1000, 2000, 5000, 10_000].map(|by| first % by);
        let hundred = numbers[4];
        let mut fields = vec![first.to_string(), second.to_string()];
        fields.extend(numbers.map(|it| it.to_string()));
        fields.extend([(hundred * 2).to_string(), (hundred * 2 + 1).to_string()]);
        fields.extend([letters(first), letters(second)]);
        fields.push(strings[(second % 4) as usize].to_owned());
        text += &fields.join("\t");
        text.push('\n');
    }
    text
}

fn letters(number: u32) -> String {
    let letter = |of: u32| char::from(b'A' + u8::try_from(of % 26).unwrap());
    format!("{}{}AAAA", letter(number), letter(number / 26))
}

fn arrays() -> String {
    let mut text = String::new();
    for n in 1..=100_u32 {
        let numbers = (0..n % 9).map(|at| ((n * 31 + at * 17) % 100).to_string());
        let words = (0..n % 6).map(|at| format!("AAAAAAAA{}", (n * 13 + at * 7) % 60));
        let (numbers, words): (Vec<_>, Vec<_>) = (numbers.collect(), words.collect());
        writeln!(
            text,
            "{n}\t{{{}}}\t{{{}}}",
            numbers.join(","),
            words.join(",")
        )
        .unwrap();
    }
    text += "101\t{}\t{}\n102\t\\N\t{NULL}\n";
    text
}

fn jsonb() -> String {
    let mut text = String::new();
    for n in 0..300_u32 {
        let state = ["CA", "NY", "TX"][(n % 3) as usize];
        writeln!(
            text,
            "{{\"line\": {n}, \"state\": \"{state}\", \"age\": {}, \"wait\": {}, \"array\": [{}, \"x\"]}}",
            n % 40,
            match n % 5 { 0 => "null", _ => "\"CC\"" },
            n % 7
        )
        .unwrap();
    }
    text
}
