//! Transfers over HTTP, against the plainest search and sum.

use std::fmt::Write;
use std::num::NonZeroU64;

use lookout_types::{Address, Asset, Hash, TRANSFER};
use lookout_warehouse::suite::World;
use lookout_warehouse::{AssetFilter, Side, Total, TransferEvent, TransferFilter};
use serde_json::{Value, json};

use crate::routes::events::tests::{block, commas, in_span, log, pages, span_query};
use crate::testing::{TestApi, config};

const TRANSFERS: &str = "/v1/chains/eip155:1/transfers";

async fn with_world(seed: u64) -> (TestApi, World) {
    let mut world = World::new(seed);
    world.run(80);
    let api = TestApi::start(config()).await;
    api.feed(&world.frames).await;
    (api, world)
}

fn filter_query(filter: &TransferFilter) -> String {
    let mut query = span_query(&filter.span);
    if !filter.parties.is_empty() {
        write!(query, "&address={}", commas(&filter.parties)).unwrap();
        query.push_str(match filter.side {
            Side::Either => "&side=either",
            Side::From => "&side=from",
            Side::To => "&side=to",
        });
    }
    let asset = |asset: &AssetFilter| match asset {
        AssetFilter::Native => "native".to_owned(),
        AssetFilter::Contract(contract) => contract.to_string(),
        AssetFilter::Token { contract, id } => format!("{contract}:{id}"),
    };
    if !filter.assets.is_empty() {
        let assets: Vec<_> = filter.assets.iter().map(asset).collect();
        write!(query, "&asset={}", assets.join(",")).unwrap();
    }
    query
}

fn wanted(filter: &TransferFilter, event: &TransferEvent) -> bool {
    let transfer = &event.transfer;
    let party = |address: &Address| filter.parties.contains(address);
    let side = match filter.side {
        Side::Either => party(&transfer.from) || party(&transfer.to),
        Side::From => party(&transfer.from),
        Side::To => party(&transfer.to),
    };
    let of = |wanted: &AssetFilter| match (*wanted, transfer.asset) {
        (AssetFilter::Native, asset) => asset == Asset::Native,
        (AssetFilter::Contract(wanted), Asset::Erc20(contract)) => wanted == contract,
        (
            AssetFilter::Contract(wanted),
            Asset::Erc721 { contract, .. } | Asset::Erc1155 { contract, .. },
        ) => wanted == contract,
        (
            AssetFilter::Token { contract: wanted, id: token },
            Asset::Erc721 { contract, id } | Asset::Erc1155 { contract, id },
        ) => (wanted, token) == (contract, id),
        _ => false,
    };
    in_span(&filter.span, &event.block, event.timestamp)
        && (filter.parties.is_empty() || side)
        && (filter.assets.is_empty() || filter.assets.iter().any(of))
}

/// An item as it should be shown, without its time.
fn shown(event: &TransferEvent) -> Value {
    let transfer = &event.transfer;
    let (kind, contract, id) = match transfer.asset {
        Asset::Native => ("native", None, None),
        Asset::Erc20(contract) => ("erc20", Some(contract), None),
        Asset::Erc721 { contract, id } => ("erc721", Some(contract), Some(id)),
        Asset::Erc1155 { contract, id } => ("erc1155", Some(contract), Some(id)),
    };
    json!({
        "blockNumber": event.block.number,
        "blockHash": event.block.hash.to_string(),
        "transactionHash": transfer.transaction_hash.to_string(),
        "transactionIndex": transfer.transaction_index,
        "logIndex": transfer.log_index,
        "batchIndex": transfer.batch_index,
        "asset": {
            "kind": kind,
            "contract": contract.map(|contract| contract.to_string()),
            "tokenId": id.map(|id| id.to_string()),
        },
        "from": transfer.from.to_string(),
        "to": transfer.to.to_string(),
        "amount": transfer.amount.to_string(),
    })
}

#[tokio::test]
async fn filters_find_what_a_plain_search_finds_and_exports_give_the_same() {
    for seed in 10..16 {
        let (api, mut world) = with_world(seed).await;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..15 {
            let filter = world.random_transfer_filter(&mut random);
            let found = world.transfers().into_iter().filter(|event| wanted(&filter, event));
            let mut told: Vec<_> = found.map(|event| shown(&event)).collect();
            for order in ["asc", "desc"] {
                let query = format!("{TRANSFERS}?order={order}{}", filter_query(&filter));
                let mut items = pages(&api, &query, random.u32(1..9)).await;
                let lines = api.get(&format!("{query}&format=ndjson")).await.text;
                let lines: Vec<Value> =
                    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert_eq!(lines, items, "{query}");
                let csv = api.get(&format!("{query}&format=csv")).await.text;
                assert_eq!(csv.matches("\r\n").count(), items.len() + 1);
                for item in &mut items {
                    assert!(item.as_object_mut().unwrap().remove("timestamp").is_some());
                }
                assert_eq!(items, told, "{query}");
                told.reverse();
            }
        }
    }
}

#[tokio::test]
async fn sums_are_those_of_a_plain_count() {
    let (api, mut world) = with_world(20).await;
    let mut random = fastrand::Rng::with_seed(20);
    for _ in 0..20 {
        let filter = world.random_transfer_filter(&mut random);
        let (bucket, bucket_s) =
            [("", None), ("&bucket=5m", NonZeroU64::new(300))][random.usize(0..2)];
        let query = filter_query(&filter);
        let path = format!("/v1/chains/1/events/stats?kind=transfers{bucket}{query}");
        let got = api.get(&path).await.json();
        let told: Vec<_> = got["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stat| {
                assert_eq!(stat["overflow"], false);
                (stat["count"].as_u64().unwrap(), stat["total"].as_str().unwrap().to_owned())
            })
            .collect();
        let plain = world.transfer_stats(&filter, bucket_s).into_iter().map(|stat| {
            let Total::Exact(total) = stat.total else { panic!("{:?}", stat.total) };
            (stat.count, total.to_string())
        });
        assert_eq!(told, plain.collect::<Vec<_>>(), "{path}");
    }
}

#[tokio::test]
async fn a_sum_beyond_every_number_is_said_and_not_wrapped() {
    let api = TestApi::start(config()).await;
    let most = |at| log(at, vec![TRANSFER, Hash::default(), Hash::default()], vec![0xff; 32]);
    api.feed(&[block(1, 1, vec![most(0), most(1)])]).await;
    let got = api.get("/v1/chains/1/events/stats?kind=transfers").await.json();
    let item = &got["items"][0];
    assert_eq!(
        (&item["count"], &item["total"], &item["overflow"]),
        (&json!(2), &Value::Null, &json!(true))
    );
    assert_eq!(item["asset"]["kind"], "erc20");
}

#[tokio::test]
async fn wrong_assets_and_sides_are_named() {
    let api = TestApi::start(config()).await;
    let contract = Address([1; 20]);
    let token = format!("asset={contract}:x");
    let many = format!("asset={}", commas(&vec!["native"; 257]));
    for (query, code, reason) in [
        ("asset=ether", "invalid_address", "starts with `0x`"),
        ("asset=native,", "invalid_address", "starts with `0x`"),
        (token.as_str(), "invalid_parameter", "the id of a token"),
        (&many, "invalid_parameter", "at most 256 values, not 257"),
        ("side=to", "invalid_parameter", "says where an `address` stands"),
        ("side=both", "invalid_parameter", "`either`, `from`, `to`"),
    ] {
        let detail = api.get(&format!("{TRANSFERS}?{query}")).await.problem(400, code);
        assert!(detail.contains(reason), "{query}: {detail}");
    }
    let good = format!("{TRANSFERS}?asset=native,{contract},{contract}:0xff");
    assert_eq!(api.get(&good).await.status, 200);
}
