//! Which channels are looked at first.

use super::super::{NOW, Rig};
use super::Filled;

suite!(
    memory,
    crate::suite::on_memory,
    [what_works_is_looked_at_first_and_no_tenant_fills_the_list]
);
suite!(
    postgres,
    crate::suite::on_postgres,
    [what_works_is_looked_at_first_and_no_tenant_fills_the_list]
);

async fn what_works_is_looked_at_first_and_no_tenant_fills_the_list(rig: &Rig) {
    let b = Filled::new(rig).await;
    // Two tenants with all the channels they may have, which fail and have the oldest deliveries.
    for tenant in ["big", "bigger", "small"] {
        b.run(&format!("INSERT INTO tenants (tenant_id, created_at) VALUES ('{tenant}', 0)")).await;
    }
    for (tenant, channels, failures, due) in
        [("big", 500, 3, 5), ("bigger", 500, 0, 4), ("small", 2, 0, 1)]
    {
        let (mut rows, mut deliveries) = (Vec::new(), Vec::new());
        for n in 0..channels {
            let config = r#"{"kind":"slack"}"#;
            rows.push(format!(
                "('{tenant}', '{tenant}{n:03}', 'x', 'slack', '{config}', '{{}}', 'active', 0, 0, \
                 {failures})"
            ));
            deliveries.push(format!(
                "('{tenant}', 'd{tenant}{n:03}', '{tenant}{n:03}', 'a', 'alert', 'queued', 0, \
                 {}, 0)",
                NOW - due
            ));
        }
        b.run(&format!(
            "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
             updated_at, failures) VALUES {}",
            rows.join(", ")
        ))
        .await;
        b.run(&format!(
            "INSERT INTO deliveries (tenant_id, id, channel_id, alert_id, kind, state, attempts, \
             due_at, created_at) VALUES {}",
            deliveries.join(", ")
        ))
        .await;
    }
    // One of the small tenant's waits.
    b.run(&format!("UPDATE channels SET wait_until = {} WHERE id = 'small001'", NOW + 9)).await;
    let due = b.store.due_channels().await.unwrap();
    assert_eq!(due.now, NOW);
    let ids: Vec<&str> = due.channels.iter().map(|due| due.id.as_str()).collect();
    assert_eq!(ids[..3], ["bigger000", "small000", "bigger001"]);
    assert_eq!(ids.iter().filter(|id| id.starts_with("bigger")).count(), 64);
    assert_eq!(ids.iter().filter(|id| id.starts_with("big0")).count(), 64);
    assert_eq!(ids.last(), Some(&"small001"), "what cannot be sent to comes last");
    assert_eq!(due.channels.last().unwrap().due_at, NOW + 9);
}
