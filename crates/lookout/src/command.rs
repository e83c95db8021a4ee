//! The commands that work on held data: what they need is opened here.

use std::sync::Arc;

use lookout_chain::Chains;
use lookout_ingest::publish::Limits;
use lookout_store::{Actor, Store};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::backfill::{self, Backfill};
use crate::cli::{BackfillArgs, ImportCommand, RulesCommand};
use crate::config::Settings;
use crate::failure::Failure;
use crate::rules::{self, TestRules, import};
use crate::watch::Instance;

/// `lookout backfill`.
pub(crate) async fn backfill(app: &App, args: BackfillArgs) -> Result<String, Failure> {
    let settings = app.settings()?;
    let follow = settings.follows.iter().find(|follow| follow.chain == args.chain);
    let follow = follow.ok_or_else(|| not_followed(&settings, &args.chain))?.clone();
    let instance = Instance::claim(&settings)?;
    let store = app.store(&settings).await?;
    let chains = Chains::start(settings.chains.clone(), settings.cache_bytes_max());
    let chain = chains.get(&follow.chain).map_err(|e| Failure::failed(e.to_string()))?;
    let stop = CancellationToken::new();
    let ended = tokio::spawn({
        let stop = stop.clone();
        async move {
            // What was done stays, so the first signal may end it at once.
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                stop.cancel();
            }
        }
    });
    let done = backfill::backfill(Backfill {
        chain: follow.chain,
        source: chain.source(),
        wants: follow.wants,
        from: args.from,
        to: args.to,
        verify: args.verify,
        rebuild: args.rebuild,
        bus: settings.bus().clone(),
        warehouse: settings.warehouse().clone(),
        store: store.clone(),
        holder: instance.name.clone(),
        limits: Limits::default(),
        clock: Arc::clone(&app.clock),
        stop,
    })
    .await;
    ended.abort();
    chains.stop();
    store.close().await;
    done
}

fn not_followed(settings: &Settings, chain: &str) -> Failure {
    let known = settings.chains.iter().any(|known| known.name == chain);
    if known {
        return Failure::usage(format!(
            "chain `{chain}` is not followed; set chains.{chain}.follow to \"logs\" or \"blocks\""
        ));
    }
    let names: Vec<_> = settings.chains.iter().map(|known| known.name.as_str()).collect();
    Failure::usage(format!("no chain `{chain}`; configured chains: {}", names.join(", ")))
}

/// `lookout rules …`.
pub(crate) async fn rules(app: &App, command: RulesCommand) -> Result<String, Failure> {
    let settings = app.settings()?;
    let chains: rules::Chains =
        settings.chains.iter().map(|chain| (chain.name.clone(), chain.id)).collect();
    match command {
        RulesCommand::Test { files, block, from, to, chain } => {
            let warehouse = settings.warehouse().clone();
            rules::test(TestRules { files, block, from, to, chain, chains, warehouse }).await
        }
        RulesCommand::Import(ImportCommand::Oz { folder, apply, tenant }) => {
            let store = match apply {
                true => Some(app.store(&settings).await?),
                false => None,
            };
            let apply = store.clone().map(|store| (store, tenant.clone()));
            let kept = settings.follows.iter().map(|follow| (follow.id, follow.kept())).collect();
            let args = import::ImportOz { folder, chains, kept, apply };
            let channel = async |request: &Value| match &store {
                Some(store) => make_channel(app, &settings, store, &tenant, request).await,
                None => Err(Failure::failed("nothing is saved without --apply")),
            };
            let done = import::import_oz(args, channel).await;
            if let Some(store) = store {
                store.close().await;
            }
            done
        }
    }
}

async fn make_channel(
    app: &App,
    settings: &Settings,
    store: &Store,
    tenant: &str,
    request: &Value,
) -> Result<String, Failure> {
    let channels = settings.api().channels;
    let new = lookout_api::new_channel(tenant, request, &channels, app.clock.now());
    let new = new.map_err(Failure::failed)?;
    let (made, _) = store.create_channel(new, &channels.guard, &Actor::Cli).await?;
    Ok(made.id)
}
