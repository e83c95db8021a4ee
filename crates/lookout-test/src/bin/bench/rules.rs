//! What rules cost a block, from a hundred to a hundred thousand of them on the same blocks.

use anyhow::{Context, Result};

use crate::process::{Cores, Programs};
use crate::report::{Bound, Figure, Report};
use crate::stage;

/// Most that a block may cost, in milliseconds.
const BLOCK_MS_MAX: f64 = 5.0;
/// Most that the most rules may cost beside the fewest.
const RATIO_MAX: f64 = 1.5;
/// Numbers of rules, as the program has them.
const COUNTS: [&str; 4] = ["100", "1000", "10000", "100000"];

/// Runs the program that measures it and reads its table.
pub(crate) async fn measure(programs: &Programs, report: &mut Report) -> Result<()> {
    Cores::Free.take_load_side().await?;
    let said = stage::run(&programs.example("match_cost", "lookout-rules")?, &[]).await?;
    let mut times = Vec::new();
    for count in COUNTS {
        let millis = block_ms(&said, count)?;
        times.push(millis);
        report.add(
            Figure::new(format!("rules: a block with {count}"), millis, "ms")
                .target(Bound::AtMost, BLOCK_MS_MAX)
                .note("200 transactions, 500 logs; one thread, best of 30 rounds"),
        );
    }
    let (fewest, most) = times.first().zip(times.last()).context("no figures")?;
    report.add(
        Figure::new("rules: 100000 beside 100", most / fewest, "")
            .target(Bound::AtMost, RATIO_MAX)
            .note(stage::load()),
    );
    Ok(())
}

/// Milliseconds that a block takes with this many rules.
fn block_ms(said: &str, count: &str) -> Result<f64> {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(count));
    let line = line.with_context(|| format!("nothing of {count} rules in: {said}"))?;
    Ok(stage::number(line, count, "ns")? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_rules_is_found() {
        let said =
            "rules     block  ratio\n   100    250000 ns  1.00x\n100000    300000 ns  1.20x\n";
        assert_eq!(block_ms(said, "100").unwrap(), 0.25);
        assert_eq!(block_ms(said, "100000").unwrap(), 0.3);
        assert!(block_ms(said, "1000").is_err());
    }
}
