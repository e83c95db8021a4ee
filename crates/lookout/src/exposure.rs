//! Who can reach the server, and whether that is meant.

use std::net::SocketAddr;

use crate::config::Settings;
use crate::failure::Failure;

/// Refuses an address that other machines reach while nobody has to say who they are.
pub(crate) fn check(
    listen: SocketAddr,
    settings: &Settings,
    has_keys: bool,
) -> Result<(), Failure> {
    // An IPv4 loopback address may come in its IPv6 form.
    if listen.ip().to_canonical().is_loopback() || has_keys || settings.lets_callers_in() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "will not listen on {listen} without access control: make a key with `lookout keys create \
         --scopes chains:read`, or open scopes to everyone with auth.anonymous = [\"chains:read\"], \
         or configure auth.oidc; or listen on loopback, as 127.0.0.1:{}",
        listen.port()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn only_an_open_address_without_any_access_control_is_refused() {
        let closed = Environment::default();
        let anonymous = Environment::from([("LOOKOUT_AUTH__ANONYMOUS", "chains:read")]);
        let oidc = Environment::from([
            ("LOOKOUT_AUTH__OIDC__ISSUER", "https://id.example"),
            ("LOOKOUT_AUTH__OIDC__AUDIENCE", "lookout"),
            ("LOOKOUT_AUTH__OIDC__JWKS_URL", "https://id.example/keys"),
        ]);
        for (listen, environment, has_keys, allowed) in [
            ("127.0.0.1:1", &closed, false, true),
            ("127.9.9.9:1", &closed, false, true),
            ("[::1]:1", &closed, false, true),
            ("[::ffff:127.0.0.1]:1", &closed, false, true),
            ("0.0.0.0:1", &closed, false, false),
            ("[::]:1", &closed, false, false),
            ("192.168.1.2:1", &closed, false, false),
            ("[::ffff:10.0.0.1]:1", &closed, false, false),
            ("0.0.0.0:1", &closed, true, true),
            ("0.0.0.0:1", &anonymous, false, true),
            ("0.0.0.0:1", &oidc, false, true),
        ] {
            let settings = Settings::load(None, environment).unwrap();
            let result = check(listen.parse().unwrap(), &settings, has_keys);
            assert_eq!(result.is_ok(), allowed, "{listen} {has_keys}");
            if let Err(failure) = result {
                let said = failure.to_string();
                for remedy in ["lookout keys create", "auth.anonymous", "auth.oidc", "127.0.0.1:1"]
                {
                    assert!(said.contains(remedy), "{said}");
                }
                assert_eq!(failure.exit_code(), 2);
            }
        }
    }
}
