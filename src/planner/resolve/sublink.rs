//! Queries in expressions.

use pg_query::NodeEnum;
use pg_query::protobuf::{SubLink, SubLinkType};

use super::{Resolver, boxed, inner, strings};
use crate::refusal::{Refusal, Result};
use crate::tree::{Expr, Sub, Test};

impl<'a> Resolver<'a> {
    pub(super) fn sublink(&mut self, sub: &'a SubLink) -> Result<Expr> {
        let NodeEnum::SelectStmt(select) = boxed(&sub.subselect)? else {
            return Err(Refusal::new("expression", "a query in it is no SELECT"));
        };
        let mut left = Vec::new();
        if let Some(test) = &sub.testexpr {
            match self.expr(inner(test)?)? {
                Expr::Row(items) => left = items,
                expr => left.push(expr),
            }
        }
        let outside = self.stack.len();
        let query = self.query(select)?;
        // Columns of the query's own levels are nobody else's.
        self.found_in &= (1_u64 << outside.min(63)) - 1;
        let operator = strings(&sub.oper_name)?;
        let test = match sub.sub_link_type() {
            SubLinkType::ExistsSublink => Test::Exists,
            SubLinkType::AnySublink if matches!(operator.as_slice(), [] | ["="]) => Test::In,
            SubLinkType::AllSublink if operator.as_slice() == ["<>"] => Test::NotIn,
            SubLinkType::AnySublink | SubLinkType::AllSublink => Test::Value,
            SubLinkType::ExprSublink | SubLinkType::ArraySublink => Test::Value,
            _ => {
                return Err(Refusal::new(
                    "expression",
                    "a query in it is of an unknown kind",
                ));
            }
        };
        let plain = self
            .catalog
            .operators("=")
            .iter()
            .all(|operator| !operator.of_plain_types);
        let test = match test {
            Test::In | Test::NotIn if !plain => Test::Value,
            test => test,
        };
        if sub.sub_link_type() == SubLinkType::ArraySublink {
            // The order of its elements is that in which the rows come.
            self.level.loose |= query.sort.is_empty();
            // Rows may be equal in what they are sorted by.
            self.traits.order.get_or_insert("ARRAY(SELECT …)");
        }
        Ok(Expr::Sub(Sub {
            test,
            compared: false,
            left,
            query: Box::new(query),
        }))
    }
}
