//! The figures, as a table for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;

/// Which side of a target is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
struct Target {
    bound: Bound,
    value: f64,
}

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// Lowest and highest of the rounds.
    spread: Option<(f64, f64)>,
    target: Option<Target>,
    met: Option<bool>,
    note: String,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (name, note) = (name.into(), String::new());
        Self { name, value, unit, spread: None, target: None, met: None, note }
    }

    pub(crate) fn spread(mut self, values: impl Iterator<Item = f64>) -> Self {
        self.spread = values.fold(None, |spread, value| match spread {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        });
        self
    }

    pub(crate) fn target(mut self, bound: Bound, value: f64) -> Self {
        self.met = Some(match bound {
            Bound::AtLeast => self.value >= value,
            Bound::AtMost => self.value <= value,
        });
        self.target = Some(Target { bound, value });
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Bytes in megabytes of a million.
    pub(crate) fn megabytes(bytes: u64) -> f64 {
        bytes as f64 / 1e6
    }

    fn cells(&self) -> [String; 5] {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let spread = self
            .spread
            .map_or_else(String::new, |(low, high)| format!("{} to {}", number(low), number(high)));
        let target = self.target.map_or_else(String::new, |target| match target.bound {
            Bound::AtLeast => format!(">= {}{unit}", target.value),
            Bound::AtMost => format!("<= {}{unit}", target.value),
        });
        let met = match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        [self.name.clone(), number(self.value) + &unit, spread, target, met.to_owned()]
    }
}

/// Three significant digits or so: more would be noise.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle value; of an even count, the mean of the two in the middle. Zero without any.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(value)) => *value,
        _ => 0.0,
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    /// Whether it was only a smoke run.
    quick: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool) -> Self {
        Self { machine, quick, figures: Vec::new() }
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        let quick = if self.quick { " (smoke run: these figures are worth nothing)" } else { "" };
        writeln!(f, "{}{quick}", machine.date)?;
        writeln!(
            f,
            "{} cores of {}, {} MB, Linux {}",
            machine.cores, machine.processor, machine.memory_mb, machine.kernel
        )?;
        writeln!(f, "{}", machine.versions)?;
        let pinned = if machine.pinned {
            "reads under load: server on core 0, generator on core 1; all else wherever it runs"
        } else {
            "NOT PINNED (one core, or no taskset): server and generator disturb each other"
        };
        writeln!(f, "{pinned}\n")?;
        let heads = ["what", "median", "rounds", "target", ""].map(str::to_owned);
        let rows: Vec<[String; 5]> =
            std::iter::once(heads).chain(self.figures.iter().map(Figure::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let notes = std::iter::once("").chain(self.figures.iter().map(|one| one.note.as_str()));
        for ([what, value, rounds, target, met], note) in rows.iter().zip(notes) {
            let [a, b, c, d, e] = widths;
            let line =
                format!("{what:a$}  {value:>b$}  {rounds:>c$}  {target:>d$}  {met:e$}  {note}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let machine = Machine {
            date: "2026-01-02".into(),
            processor: "CPU".into(),
            cores: 2,
            memory_mb: 1024,
            kernel: "6".into(),
            versions: "lookout 0.1.0".into(),
            pinned: true,
        };
        let mut report = Report::new(machine, false);
        let ratios = [0.5, 0.8, 0.9];
        let ratio = Figure::new("ratio", median(ratios.into_iter()), "");
        report.add(ratio.spread(ratios.into_iter()).target(Bound::AtLeast, 0.7).note("a note"));
        report.add(Figure::new("memory", 61.25, "MB").target(Bound::AtMost, 50.0));
        report
    }

    #[test]
    fn the_table_has_each_figure_beside_its_target() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().skip(5).collect();
        assert_eq!(
            lines,
            [
                "what     median          rounds    target",
                "ratio     0.800  0.500 to 0.900    >= 0.7  met     a note",
                "memory  61.2 MB                  <= 50 MB  MISSED",
            ]
        );
    }

    #[test]
    fn json_holds_the_same() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["figures"][0]["value"], 0.8);
        assert_eq!(json["figures"][0]["spread"], serde_json::json!([0.5, 0.9]));
        assert_eq!(json["figures"][1]["met"], false);
        assert_eq!(json["figures"][1]["target"]["bound"], "atMost");
        assert_eq!(json["machine"]["memory_mb"], 1024);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([7.0].into_iter()), 7.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
