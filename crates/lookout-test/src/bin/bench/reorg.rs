//! A deep reorg over a full warehouse.

use anyhow::Result;

use crate::plan::Plan;
use crate::process::{Cores, Programs};
use crate::report::{Bound, Figure, Report};
use crate::stage;

/// Longest reorg of 64 blocks over a million rows, in milliseconds.
const REORG_MS_MAX: f64 = 1000.0;

/// Runs the program that measures it.
pub(crate) async fn measure(programs: &Programs, plan: &Plan, report: &mut Report) -> Result<()> {
    Cores::Free.take_load_side().await?;
    let program = programs.example("insert_rate", "lookout-warehouse")?;
    let mut times = Vec::new();
    for _ in 0..plan.reorgs {
        let said = stage::run(&program, &[]).await?;
        let time = stage::between(&said, "undone and replaced: ", "\n")?;
        times.push(stage::seconds(time)? * 1e3);
    }
    report.add(
        Figure::new("reorg of 64 blocks", crate::report::median(times.iter().copied()), "ms")
            .spread(times.iter().copied())
            .target(Bound::AtMost, REORG_MS_MAX)
            .note(format!(
                "undone and replaced in the warehouse, 100 transfers each, over 1M transfers; {}",
                stage::load()
            )),
    );
    Ok(())
}
