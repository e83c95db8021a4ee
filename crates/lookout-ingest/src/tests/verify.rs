//! Verification finds what is missing and what differs.

use lookout_chain::Wants;
use parking_lot::Mutex;

use super::{Place, limits, source};
use crate::publish::Start;
use crate::sim::{Faults, SimSource};
use crate::verify::{Differs, VerifyError, VerifyReport, verify_range};

async fn verify(
    place: &Place,
    source: &SimSource,
    heights: std::ops::RangeInclusive<u64>,
) -> Result<VerifyReport, VerifyError> {
    let seen = Mutex::new(Vec::new());
    let progress = |height| seen.lock().push(height);
    let warehouse = place.warehouse.as_ref();
    let (wants, limits) = (Wants { whole: true, ..Wants::default() }, limits());
    let report = verify_range(source, &wants, warehouse, heights.clone(), &limits, &progress);
    let report = report.await?;
    let seen = seen.into_inner();
    assert!(seen.is_sorted() && seen.last() == Some(&(heights.end() + 1)), "{seen:?}");
    Ok(report)
}

#[tokio::test]
async fn what_is_held_is_compared_with_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let source = source(15, 80);
    let mut parts = place.publisher(&source, Start::Height(10));
    parts.until = Some(69);
    crate::publish::Publisher::new(parts).run().await.unwrap();
    place.consume(place.consumer()).await.unwrap();

    let report = verify(&place, &source, 10..=69).await.unwrap();
    assert!(report.is_clean() && report.ok == 60 && report.differences.is_empty(), "{report:?}");
    let report = verify(&place, &source, 0..=79).await.unwrap();
    assert!(!report.is_clean());
    assert_eq!((report.ok, &*report.missing), (60, &[0..=9, 70..=79][..]));

    // An upstream that is away now and then delays, and nothing else.
    source.set_faults(Faults { away: 30, range_blocks_max: Some(7), ..Faults::default() });
    assert!(verify(&place, &source, 10..=69).await.unwrap().is_clean());
    source.set_faults(Faults { away: 100, ..Faults::default() });
    let error = verify(&place, &source, 10..=69).await.unwrap_err();
    assert!(error.to_string().starts_with("blocks 10 to "), "{error}");
    source.set_faults(Faults::default());

    source.falsify(20, |block| block.logs.clear());
    source.falsify(21, |block| block.transactions.clear());
    source.falsify(30, |block| block.header.timestamp += 1);
    let report = verify(&place, &source, 10..=69).await.unwrap();
    assert_eq!(report.different.first(), Some(&(20..=21)));
    assert_eq!(report.different.len(), 2);
    assert_eq!(report.ok, 57);
    let said: Vec<_> = report.differences.iter().map(|d| (d.height, d.what.to_string())).collect();
    assert!(said[0].1.ends_with("are held, the chain has 0"), "{said:?}");
    assert!(said[0].1.starts_with("its logs differ") && said[1].1.starts_with("its transactions"));
    assert_eq!(said[2], (30, "its parent or its time differs".to_owned()));

    // Another branch, of which more blocks differ than are looked at twice.
    source.reorg(80, 80);
    let report = verify(&place, &source, 0..=79).await.unwrap();
    assert_eq!((report.ok, &*report.different), (0, &[10..=69][..]));
    assert!(matches!(report.differences[0].what, Differs::Block { .. }));
}
