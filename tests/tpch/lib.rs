//! TPC-H: its tables, its rows as its own generator makes them, and its twenty-two questions with the values that
//! its specification gives for validation. Where the specification leaves rows of equal rank in any order, the
//! questions here say one, so that answers can be compared to the byte.

use std::fmt::Display;

use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

/// What makes the tables, with their primary keys.
pub const TABLES: &str = include_str!("tables.sql");

/// What makes the indexes of foreign keys, to be run when the rows are there.
pub const INDEXES: &str = include_str!("indexes.sql");

/// How the rows that [`Rows::lines`] gives are to be copied, behind `FROM STDIN`.
pub const FORMAT: &str = "(DELIMITER '|')";

const QUESTIONS: &str = include_str!("questions.sql");

/// The least scale at which no supplier has one part twice.
pub const LEAST: f64 = 0.01;

/// How many bytes of text comments are taken from where they need not be those of the specification.
const SHORT: i32 = 4 * 1024 * 1024;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Continents, five of them.
    Region,
    /// Countries, twenty-five of them.
    Nation,
    /// Who sells.
    Supplier,
    /// What is sold.
    Part,
    /// Who sells what.
    Partsupp,
    /// Who buys.
    Customer,
    /// What was bought.
    Orders,
    /// Its lines.
    Lineitem,
}

impl Table {
    /// All of them, those first that others refer to.
    pub const ALL: [Self; 8] = [
        Self::Region,
        Self::Nation,
        Self::Supplier,
        Self::Part,
        Self::Partsupp,
        Self::Customer,
        Self::Orders,
        Self::Lineitem,
    ];

    /// The name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Nation => "nation",
            Self::Supplier => "supplier",
            Self::Part => "part",
            Self::Partsupp => "partsupp",
            Self::Customer => "customer",
            Self::Orders => "orders",
            Self::Lineitem => "lineitem",
        }
    }
}

/// The words that comments are made of.
enum Words {
    /// Those of the specification: 300 MB, which take a second to be made.
    Exact(&'static TextPool),
    /// Fewer of the same kind.
    Short(Box<TextPool>),
}

/// All rows of a scale; at 1, lineitem has six million.
pub struct Rows {
    scale: f64,
    words: Words,
}

impl Rows {
    /// The rows that `dbgen` makes, to the byte.
    pub fn exact(scale: f64) -> Self {
        let words = Words::Exact(TextPool::get_or_init_default());
        Self { scale, words }
    }

    /// The same, but for other comments, without the time and memory that their text takes.
    pub fn short(scale: f64) -> Self {
        let pool = TextPool::new(SHORT, Distributions::static_default());
        let words = Words::Short(Box::new(pool));
        Self { scale, words }
    }

    fn pool(&self) -> &TextPool {
        match &self.words {
            Words::Exact(pool) => pool,
            Words::Short(pool) => pool,
        }
    }

    /// The rows of a table as lines for `COPY`, each with its end.
    pub fn lines(&self, table: Table) -> Box<dyn Iterator<Item = String> + '_> {
        let (words, pool) = (Distributions::static_default(), self.pool());
        let scale = self.scale;
        macro_rules! scaled {
            ($generator:ident) => {
                lines(
                    $generator::new_with_distributions_and_text_pool(scale, 1, 1, words, pool)
                        .iter(),
                )
            };
        }
        match table {
            Table::Region => {
                lines(RegionGenerator::new_with_distributions_and_text_pool(words, pool).iter())
            }
            Table::Nation => {
                lines(NationGenerator::new_with_distributions_and_text_pool(words, pool).iter())
            }
            Table::Supplier => scaled!(SupplierGenerator),
            Table::Part => scaled!(PartGenerator),
            Table::Partsupp => {
                lines(PartSuppGenerator::new_with_text_pool(scale, 1, 1, pool).iter())
            }
            Table::Customer => scaled!(CustomerGenerator),
            Table::Orders => scaled!(OrderGenerator),
            Table::Lineitem => scaled!(LineItemGenerator),
        }
    }
}

fn lines<'a>(rows: impl Iterator<Item: Display> + 'a) -> Box<dyn Iterator<Item = String> + 'a> {
    Box::new(rows.map(|row| {
        let mut line = row.to_string();
        // Each value has a bar behind it, also the last.
        line.pop();
        line.push('\n');
        line
    }))
}

/// The questions for rows of this scale, in their order.
pub fn questions(scale: f64) -> Vec<String> {
    // Among few orders, none has so many things.
    let quantity = if scale < 0.1 { 250 } else { 300 };
    let fraction = format!("{:.10}", 0.0001 / scale);
    questions_with(quantity, &fraction)
}

/// The questions with the number of things that a large order has (question 18), and the share of a part's worth
/// in all (question 11).
pub fn questions_with(quantity: u32, fraction: &str) -> Vec<String> {
    let quantity = quantity.to_string();
    QUESTIONS
        .split("\n;\n")
        .map(|question| {
            let question = question.trim().replace(":quantity", &quantity);
            question.replace(":fraction", fraction)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twenty_two_questions() {
        let questions = questions(0.1);
        assert_eq!(questions.len(), 22);
        assert!(questions[17].contains("> 300)"), "{}", questions[17]);
        assert!(
            questions[10].contains("* 0.0010000000"),
            "{}",
            questions[10]
        );
    }

    #[test]
    fn rows_are_those_of_the_generator() {
        let rows = Rows::short(LEAST);
        let count = |table| rows.lines(table).count();
        assert_eq!(
            Table::ALL.map(count)[..7],
            [5, 25, 100, 2000, 8000, 1500, 15_000]
        );
        let first = rows.lines(Table::Lineitem).next().unwrap();
        let start = "1|1552|93|1|17|24710.35|0.04|0.02|N|O|1996-03-13|1996-02-12|1996-03-22|";
        assert!(first.starts_with(start), "{first}");
        assert_eq!(first.matches('|').count(), 15);
        assert!(first.ends_with('\n'));
    }
}
