//! A wrong configuration or command line is one sentence and exit code 2.

use lookout_test::TestApp;

use crate::LOOKOUT;

const CHAIN: &str =
    "[chains.a]\nid = 5\nupstreams = [{ url = \"http://127.0.0.1:1/secretkey\" }]\n";

/// Runs `config check` on this file; gives the exit code and what was said on stderr.
async fn check(toml: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lookout.toml"), toml).unwrap();
    let mut builder = TestApp::builder(LOOKOUT);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let output = builder.run(folder.path(), &["config", "check"]).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn mistakes_are_named_with_their_remedy() {
    let duplicate = format!("{CHAIN}{}", CHAIN.replace("chains.a", "chains.b"));
    let twice = format!("{CHAIN}{CHAIN}");
    let secret = "[chains.a]\nid = 5\nupstreams = [{ url_file = \"/nowhere/secretfile\" }]\n";
    for (toml, says) in [
        ("[server]\nlisen = \"127.0.0.1:0\"\n", "listen"),
        ("[chans.a]\nid = 1\n", "chains"),
        ("[server]\nlisten = \"nowhere\"\n", "nowhere"),
        ("[server\n", "lookout.toml"),
        ("[chains.a]\nid = 5\nupstreams = []\n", "upstream"),
        ("[chains.a]\nid = 5\nupstreams = [{ url = \"ftp://x\" }]\n", "scheme"),
        ("[store]\nurl = \"mysql://x\"\n", "mysql"),
        (&duplicate, "id 5"),
        (&twice, "lookout.toml"),
        (secret, "secretfile"),
    ] {
        let (code, said) = check(toml, &[]).await;
        assert_eq!(code, Some(2), "{toml}: {said}");
        assert!(said.contains(says), "{toml}: `{said}` does not say `{says}`");
        assert!(!said.contains("secretkey"), "{said}");
        assert!(said.lines().count() <= 6 && !said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn the_environment_is_checked_as_the_file_is() {
    let (code, said) = check("", &[("LOOKOUT_SERVER__LISEN", "127.0.0.1:0")]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("LOOKOUT_SERVER__LISTEN"), "{said}");
    let (code, said) = check(CHAIN, &[("LOOKOUT_SERVER__BATCH_MAX", "7")]).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_missing_file_is_an_error_when_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let builder = TestApp::builder(LOOKOUT);
    let named =
        builder.run(folder.path(), &["config", "check", "--config", "no.toml"]).await.unwrap();
    assert_eq!(named.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&named.stderr).contains("no.toml"));
    // Without one, the defaults are a configuration.
    let plain = builder.run(folder.path(), &["config", "check"]).await.unwrap();
    assert_eq!(plain.status.code(), Some(0), "{}", String::from_utf8_lossy(&plain.stderr));
    let shown = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(shown.contains("chains.ethereum") && shown.contains("chains.polygon"), "{shown}");
}

#[tokio::test]
async fn a_project_id_names_the_upstreams_and_stays_secret() {
    let folder = tempfile::tempdir().unwrap();
    let builder = TestApp::builder(LOOKOUT).env("INFURA_PROJECT_ID", "0123456789abcdef");
    let output = builder.run(folder.path(), &["config", "check"]).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("infura.io"), "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
}
