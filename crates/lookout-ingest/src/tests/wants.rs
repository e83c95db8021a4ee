//! What is held is of one piece: nothing that was followed for something else is mixed in.

use lookout_chain::Wants;
use lookout_types::Address;

use super::{CHAIN, Place, source};
use crate::publish::{PublishError, Publisher, Start, forget};

#[tokio::test]
async fn other_wants_are_not_mixed_with_what_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let source = source(3, 5);
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    let narrower = || {
        let mut parts = place.publisher(&source, Start::Height(0));
        parts.wants = Wants { addresses: vec![Address([7; 20])], ..Wants::default() };
        parts
    };
    let error = Publisher::new(narrower()).run().await.unwrap_err();
    assert!(matches!(error, PublishError::OtherWants { .. }), "{error}");
    assert!(error.to_string().contains("followed for `blocks`"), "{error}");
    // How it is confirmed makes no difference to what is held, and as before is as before.
    let mut parts = place.publisher(&source, Start::Height(0));
    parts.wants.confirmed = true;
    source.extend(1);
    source.announce();
    place.publish(parts, &source).await;
    // Once all is forgotten, it begins anew.
    forget(CHAIN, &place.bus, &place.warehouse, &place.store, "a").await.unwrap();
    place.publish(narrower(), &source).await;
}
