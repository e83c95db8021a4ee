//! What is read with no chain configured, and the variables of older deployments.

use lookout_chain::ChainSpec;

use super::chains::plain_spec;
use super::endpoint::UpstreamUrl;
use super::environment::Environment;
use super::tree::{Origin, Problem};

/// Well-known endpoints that ask for no key; three, so that two can agree when one is away.
const ETHEREUM: [&str; 3] =
    ["https://ethereum-rpc.publicnode.com", "https://eth.drpc.org", "https://1rpc.io/eth"];
const POLYGON: [&str; 3] =
    ["https://polygon-bor-rpc.publicnode.com", "https://polygon.drpc.org", "https://1rpc.io/matic"];

const PROJECT_ID: &str = "INFURA_PROJECT_ID";
const URL: &str = "INFURA_URL";
const CACHE_TTL: &str = "CACHE_TTL_SECONDS";

/// The chains to read where none are configured.
pub(crate) fn default_chains(environment: &Environment) -> Result<Vec<ChainSpec>, Problem> {
    let ethereum = match environment.get(URL) {
        Some(url) => vec![parse(URL, url)?],
        None => infura(environment, "mainnet")?.map_or_else(|| public(&ETHEREUM), |url| vec![url]),
    };
    let polygon = infura(environment, "polygon-mainnet")?;
    let polygon = polygon.map_or_else(|| public(&POLYGON), |url| vec![url]);
    Ok(vec![plain_spec("ethereum", 1, ethereum), plain_spec("polygon", 137, polygon)])
}

/// What to tell about older variables that are set but change nothing.
pub(crate) fn notices(environment: &Environment, chains_configured: bool) -> Vec<String> {
    let mut notices = Vec::new();
    if environment.get(CACHE_TTL).is_some() {
        notices.push(format!(
            "{CACHE_TTL} has no effect: answers are cached by block hash and never go stale"
        ));
    }
    if chains_configured {
        let set = [PROJECT_ID, URL].into_iter().filter(|name| environment.get(name).is_some());
        notices.extend(set.map(|name| format!("{name} has no effect: chains are configured")));
    }
    if environment.get(URL).is_some() && environment.get(PROJECT_ID).is_some() {
        notices.push(format!("{URL} serves ethereum, {PROJECT_ID} only polygon"));
    }
    notices
}

fn public(urls: &[&str]) -> Vec<UpstreamUrl> {
    urls.iter().filter_map(|url| url.parse().ok()).collect()
}

fn infura(environment: &Environment, network: &str) -> Result<Option<UpstreamUrl>, Problem> {
    let Some(id) = environment.get(PROJECT_ID) else { return Ok(None) };
    if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(problem(PROJECT_ID, "a project id is letters and digits only"));
    }
    parse(PROJECT_ID, &format!("https://{network}.infura.io/v3/{id}")).map(Some)
}

fn parse(variable: &str, text: &str) -> Result<UpstreamUrl, Problem> {
    let url: Result<UpstreamUrl, _> = text.trim().parse();
    url.map_err(|e| problem(variable, &format!("this is {e}")))
}

fn problem(variable: &str, reason: &str) -> Problem {
    let origin = Origin::Variable(variable.to_owned());
    Problem { origin, path: String::new(), reason: reason.to_owned() }
}
