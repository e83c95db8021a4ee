//! Mail through a server whose certificate an authority of one's own has signed.

use lookout_test::smtp::Encryption;
use lookout_test::{Authority, SmtpServer};
use serde_json::json;

use super::scene::{Scene, created, until};

#[tokio::test]
async fn mail_goes_out_encrypted_where_the_configuration_trusts_the_server() {
    let authority = Authority::new().unwrap();
    let config = authority.server(&["127.0.0.1"]).unwrap();
    let mails = SmtpServer::encrypted(Encryption::StartTls(config)).await.unwrap();
    let scene = Scene::new(3, 1, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let section = |more: &str| {
        format!(
            "[email]\nhost = \"{}\"\nport = {}\nuser = \"lookout\"\npassword = \"hunter2\"\n\
             from = \"Lookout <alerts@example.org>\"\n{more}",
            mails.host(),
            mails.port()
        )
    };
    for (more, state) in [(String::new(), "queued"), (format!("ca_file = {file:?}"), "sent")] {
        let app = scene.server().config_extra(&section(&more)).start().await.unwrap();
        let body = json!({"kind": "email", "name": "ops", "to": ["ops@example.org"]});
        let channel = created(&app.post("/v1/channels", &body).await);
        let id = channel["channel"]["id"].as_str().unwrap();
        app.post(&format!("/v1/channels/{id}/test"), &json!({})).await;
        let row = until("the test was tried", async || {
            let rows = app.get(&format!("/v1/deliveries?channel={id}")).await.json();
            let row = rows["items"][0].clone();
            let tried = row["attempts"].as_u64() > Some(0) && row["state"] != "sending";
            tried.then_some(row)
        })
        .await;
        assert_eq!(row["state"], state, "{row}");
        if state == "queued" {
            let error = row["error"].as_str().unwrap();
            assert!(error.contains("its certificate is of no authority that is trusted"), "{row}");
            assert!(mails.journal().is_empty());
        }
        assert!(!app.logs().iter().any(|line| line.contains("hunter2")), "a password is logged");
    }
    assert_eq!(mails.journal().len(), 1);
    assert!(mails.logins().iter().all(|login| login.encrypted), "{:?}", mails.logins());
}
