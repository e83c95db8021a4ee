//! Mail to servers that encrypt: it arrives where they are trusted, and goes nowhere else.

use lookout_test::smtp::{Encryption, Login, Refusal, Step};
use lookout_test::{Authority, SmtpServer};

use super::mail::mail;
use super::*;

const PASSWORD: &str = "hunter2";

/// Logs in at the server, and trusts this authority besides the system's.
fn login_sender(server: &SmtpServer, tls: SmtpTls, trusted: Option<&Authority>) -> Email {
    let settings = SmtpSettings {
        host: server.host(),
        port: server.port(),
        tls,
        authorities: trusted.map(Authority::pem),
        user: Some("lookout".into()),
        password: Some(Secret::new(PASSWORD)),
        from: "Lookout <alerts@example.com>".into(),
    };
    Email::new(&settings, Arc::new(FixedClock::at(NOW))).unwrap()
}

#[tokio::test]
async fn mail_is_encrypted_on_its_way_and_so_is_the_login() {
    let authority = Authority::new().unwrap();
    let config = authority.server(&["127.0.0.1"]).unwrap();
    for (encryption, tls, in_clear) in [
        (
            Encryption::StartTls(config.clone()),
            SmtpTls::StartTls,
            &["EHLO example.com", "STARTTLS"][..],
        ),
        (Encryption::Implicit(config), SmtpTls::Implicit, &[]),
    ] {
        let server = SmtpServer::encrypted(encryption).await.unwrap();
        let sender = login_sender(&server, tls, Some(&authority));
        mail(&sender, &one(alert(1))).await.unwrap();
        assert_eq!(server.journal().len(), 1, "{tls:?}");
        let login = Login { user: "lookout".into(), password: PASSWORD.into(), encrypted: true };
        assert_eq!(server.logins(), [login], "{tls:?}");
        assert_eq!(server.in_clear(), in_clear, "{tls:?}");
        assert_eq!(server.violations(), [] as [String; 0]);
    }
}

#[tokio::test]
async fn a_password_goes_in_clear_only_where_that_was_asked_for() {
    let server = SmtpServer::start().await.unwrap();
    mail(&login_sender(&server, SmtpTls::None, None), &one(alert(1))).await.unwrap();
    assert!(!server.logins()[0].encrypted);
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn nothing_goes_to_a_server_that_does_not_prove_itself() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let right = || authority.server(&["127.0.0.1"]).unwrap();
    let wrong_name = || authority.server(&["other.example", "127.0.0.2"]).unwrap();
    let both = |config: Arc<rustls::ServerConfig>| {
        [
            (Encryption::StartTls(config.clone()), SmtpTls::StartTls),
            (Encryption::Implicit(config), SmtpTls::Implicit),
        ]
    };
    let untrusted = "its certificate is of no authority that is trusted";
    let mut cases = Vec::new();
    for (trusted, config, expected) in [
        (None, right(), untrusted),
        (Some(&other), right(), untrusted),
        (Some(&authority), wrong_name(), "its certificate is for another name"),
    ] {
        cases.extend(both(config).map(|(encryption, tls)| (encryption, tls, trusted, expected)));
    }
    let trusted = Some(&authority);
    let none = "it offers no STARTTLS, which `email.tls` asks for";
    cases.push((Encryption::None, SmtpTls::StartTls, trusted, none));
    for encryption in [Encryption::None, Encryption::StartTls(right())] {
        cases.push((encryption, SmtpTls::Implicit, trusted, "it does not speak TLS"));
    }
    for (encryption, tls, trusted, expected) in cases {
        let server = SmtpServer::encrypted(encryption).await.unwrap();
        let error = mail(&login_sender(&server, tls, trusted), &one(alert(1))).await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, SendError::Retry { .. }), "{told}");
        let start = format!("the mail server is not sent to: {expected}");
        assert!(told.starts_with(&start), "{tls:?}: {told}");
        heard_nothing(&server, &told);
    }
}

/// Somebody on the way can make a server's offer of STARTTLS come to nothing.
#[tokio::test]
async fn a_refused_starttls_is_no_reason_to_go_on_in_clear() {
    let authority = Authority::new().unwrap();
    let config = authority.server(&["127.0.0.1"]).unwrap();
    let server = SmtpServer::encrypted(Encryption::StartTls(config)).await.unwrap();
    let answer = "454 TLS is not available".to_owned();
    server.refuse([Refusal { step: Step::StartTls, answer }]);
    let sender = login_sender(&server, SmtpTls::StartTls, Some(&authority));
    let error = mail(&sender, &one(alert(1))).await.unwrap_err();
    assert!(matches!(error, SendError::Retry { .. }), "{error}");
    assert!(error.to_string().contains("TLS is not available"), "{error}");
    heard_nothing(&server, &error.to_string());
    // It is not remembered against the server either.
    mail(&sender, &one(alert(1))).await.unwrap();
    assert!(server.logins()[0].encrypted);
}

/// No mail, no login, no word of either in clear; and the error gives nothing away.
fn heard_nothing(server: &SmtpServer, told: &str) {
    assert!(server.journal().is_empty(), "{told}");
    assert!(server.logins().is_empty(), "{told}");
    let said = server.in_clear();
    let secret =
        |line: &&String| ["AUTH", "MAIL", "RCPT"].iter().any(|verb| line.starts_with(verb));
    assert_eq!(said.iter().find(secret), None, "{told}");
    for hidden in [PASSWORD, "lookout", "127.0.0.", "other.example"] {
        assert!(!told.contains(hidden), "{told}");
    }
}

#[test]
fn certificates_that_are_none_are_named() {
    let settings = SmtpSettings {
        host: "mail.example".into(),
        port: 465,
        tls: SmtpTls::Implicit,
        authorities: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        user: None,
        password: None,
        from: "a@example.com".into(),
    };
    let error = Email::new(&settings, Arc::new(FixedClock::at(NOW))).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot send mail from `a@example.com` through `mail.example`: "),
        "{error}"
    );
}
