//! Mail: one message, headers that hold, a stable id.

use lookout_test::SmtpServer;
use lookout_test::smtp::{Refusal, Step};

use super::*;

pub(super) fn mail_sender(server: &SmtpServer) -> Email {
    let settings = SmtpSettings {
        host: server.host(),
        port: server.port(),
        tls: SmtpTls::None,
        authorities: None,
        user: None,
        password: None,
        from: "Lookout <alerts@example.com>".into(),
    };
    Email::new(&settings, Arc::new(FixedClock::at(NOW))).unwrap()
}

pub(super) async fn mail(sender: &Email, parcel: &Parcel) -> Result<Receipt, SendError> {
    mail_to(sender, &["ops@example.com", "b@example.org"], parcel).await
}

async fn mail_to(sender: &Email, to: &[&str], parcel: &Parcel) -> Result<Receipt, SendError> {
    let to = to.iter().map(|&address| address.to_owned()).collect();
    sender.send(&ChannelConfig::Email { to }, &ChannelSecrets::default(), parcel).await
}

#[tokio::test]
async fn a_mail_carries_many_alerts_under_one_stable_id() {
    let server = SmtpServer::start().await.unwrap();
    let sender = mail_sender(&server);
    let alerts = || (1..=3).map(|n| Some(Alert { text: format!("Über {n}\n.dot"), ..alert(n) }));
    let receipt = mail(&sender, &parcel(ParcelKind::Alert, alerts())).await.unwrap();
    let id = receipt.message_id.unwrap();
    assert!(id.starts_with('<') && id.ends_with("@example.com>"), "{id}");
    // With another alert it is another message, which nobody may take for a repeat.
    let more = (1..=4).map(|n| Some(alert(n)));
    let more = mail(&sender, &parcel(ParcelKind::Alert, more)).await.unwrap();
    assert_ne!(more.message_id.as_deref(), Some(id.as_str()));
    mail(&sender, &parcel(ParcelKind::Alert, alerts())).await.unwrap();
    let got = server.journal().pop().unwrap();
    assert_eq!(got.from, "alerts@example.com");
    assert_eq!(got.to, ["ops@example.com", "b@example.org"]);
    for (name, value) in [
        ("message-id", id.as_str()),
        ("subject", "[Lookout] 3 alerts"),
        ("from", "Lookout <alerts@example.com>"),
        ("to", "ops@example.com, b@example.org"),
        ("date", "Thu, 09 Oct 2025 08:53:20 +0000"),
        ("auto-submitted", "auto-generated"),
        ("content-type", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(got.header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        decoded(&got),
        "3 alerts\r\n\r\nÜber 1\r\n.dot\r\n\r\nÜber 2\r\n.dot\r\n\r\nÜber 3\r\n.dot\r\n"
    );
    // Another try of the same parcel is the same message.
    mail(&sender, &parcel(ParcelKind::Alert, alerts())).await.unwrap();
    assert_eq!(server.journal().pop().unwrap().data, got.data);

    let mut retraction = parcel(ParcelKind::Retraction, [Some(alert(1))]);
    retraction.id = "other".into();
    retraction.reply_to = Some(id.clone());
    mail(&sender, &retraction).await.unwrap();
    let got = server.journal().pop().unwrap();
    assert_eq!(got.header("in-reply-to"), Some(id.clone()));
    assert_eq!(got.header("references"), Some(id));
    assert_eq!(got.header("subject").as_deref(), Some("[Lookout] Retracted: Large transfer"));
    assert_eq!(server.violations(), [] as [String; 0]);
}

#[tokio::test]
async fn answers_of_the_mail_server_decide_about_another_try() {
    let server = SmtpServer::start().await.unwrap();
    let sender = mail_sender(&server);
    for (step, answer, again) in [
        (Step::Recipient, "451 greylisted", true),
        (Step::Recipient, "550 no such user", false),
        (Step::Data, "452 disk full", true),
        (Step::Data, "554 looks like spam", false),
        (Step::Mail, "530 authentication required", true),
        (Step::Mail, "421 going down", true),
    ] {
        server.refuse([Refusal { step, answer: answer.to_owned() }]);
        let error = mail_to(&sender, &["ops@example.com"], &one(alert(1))).await.unwrap_err();
        assert_eq!(matches!(error, SendError::Retry { .. }), again, "{answer}: {error}");
        let words = answer.split_once(' ').unwrap().1;
        assert!(error.to_string().contains(words), "{answer}: {error}");
    }
    assert!(server.journal().is_empty());
    mail(&sender, &one(alert(1))).await.unwrap();
    drop(server);
    let error = mail(&sender, &one(alert(1))).await.unwrap_err();
    assert!(matches!(error, SendError::Retry { .. }), "{error}");
}

#[tokio::test]
async fn a_recipient_whom_the_server_does_not_know_takes_the_mail_from_nobody_else() {
    let server = SmtpServer::start().await.unwrap();
    let sender = mail_sender(&server);
    server.close_mailbox("b@example.org");
    mail(&sender, &one(alert(1))).await.unwrap();
    let got = server.journal().pop().unwrap();
    assert_eq!(got.to, ["ops@example.com"]);
    let id = format!("<{ID}@example.com>");
    assert_eq!(got.header("message-id").as_deref(), Some(id.as_str()), "one alert, its own id");
    // Where it knows nobody, nothing was sent, and that is final.
    server.close_mailbox("ops@example.com");
    let error = mail(&sender, &one(alert(1))).await.unwrap_err();
    assert!(matches!(&error, SendError::Refused { .. }), "{error}");
    assert_eq!((server.journal().len(), server.violations().len()), (1, 0));
}

#[test]
fn settings_that_cannot_work_are_named_without_the_password() {
    let settings = SmtpSettings {
        host: "mail.example".into(),
        port: 465,
        tls: SmtpTls::Implicit,
        authorities: None,
        user: Some("u".into()),
        password: Some(Secret::new("hidden")),
        from: "nobody".into(),
    };
    let error = Email::new(&settings, Arc::new(FixedClock::at(NOW))).unwrap_err().to_string();
    assert_eq!(error, "cannot send mail from `nobody` through `mail.example`: no mail address");
    let settings = SmtpSettings { from: "a@example.com".into(), ..settings };
    let sender = Email::new(&settings, Arc::new(FixedClock::at(NOW))).unwrap();
    assert!(!format!("{sender:?} {settings:?}").contains("hidden"));
}

/// The body with its transfer encoding undone.
pub(super) fn decoded(mail: &lookout_test::smtp::Mail) -> String {
    let body = mail.body();
    match mail.header("content-transfer-encoding").as_deref() {
        Some("base64") => {
            let text: String = body.split_whitespace().collect();
            let engine = base64::engine::general_purpose::STANDARD;
            String::from_utf8(base64::Engine::decode(&engine, text).unwrap()).unwrap()
        }
        Some("quoted-printable") => unquoted(body),
        _ => body.to_owned(),
    }
}

/// RFC 2045, section 6.7.
fn unquoted(body: &str) -> String {
    let joined = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'=' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}
