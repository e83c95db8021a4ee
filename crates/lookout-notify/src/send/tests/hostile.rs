//! Hostile text through every sender: whatever is in it, it stays text.

use lookout_test::SmtpServer;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::groups::Scene;
use super::mail::{decoded, mail, mail_sender};
use super::*;

/// Pieces of which attacks are made.
const PIECES: [&str; 44] = [
    "@everyone",
    "@here",
    "<@1>",
    "<@&1>",
    "<#1>",
    "<!channel>",
    "<!here|x>",
    "<https://e.example|x>",
    "[x](https://e.example)",
    "https://e.example",
    "http://",
    "://",
    "**",
    "__",
    "~~",
    "||",
    "`",
    "```",
    "*",
    "_",
    "~",
    "> ",
    ">>> ",
    "# ",
    "-# ",
    "- ",
    "1. ",
    "+ ",
    ":smile:",
    "<t:1:R>",
    "<:a:1>",
    "\\",
    "\\\\",
    "&amp;",
    "&lt;",
    "\r\n",
    "\r\nBcc: all@example.com\r\n\r\n",
    "\n.\r\n",
    "\0",
    "\u{202e}",
    "\u{200b}",
    "=?utf-8?q?x?=",
    "🚨",
    "\u{1b}[31m",
];

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => (0..PIECES.len()).prop_map(|at| PIECES[at].to_owned()),
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z0-9 .]{1,6}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn with(text: &str, name: &str, kind: ParcelKind) -> Parcel {
    parcel(kind, [Some(Alert { text: text.into(), rule_name: name.into(), ..alert(1) })])
}

/// What a person sees of a Discord message; `Err` says which markup is still alive in it. Written
/// from Discord's own description of its markdown, not from the sender.
fn read_discord(content: &str) -> Result<String, String> {
    let mut seen = String::new();
    let mut characters = content.chars().peekable();
    let mut line_start = true;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next) if next.is_ascii_punctuation() => seen.push(next),
                other => return Err(format!("a backslash in front of {other:?}")),
            },
            '@' => {
                if characters.peek() != Some(&'\u{200b}') {
                    return Err("a mention".to_owned());
                }
                characters.next();
                seen.push('@');
            }
            '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '(' | ')' | '#' => {
                return Err(format!("live {character:?}"));
            }
            ':' => return Err("a colon that begins a link or an emoji".to_owned()),
            '-' | '+' if line_start => return Err("a list".to_owned()),
            plain => seen.push(plain),
        }
        line_start = character == '\n' || line_start && character == ' ';
    }
    Ok(seen)
}

/// Without what no channel shows.
fn visible(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One scene for all cases: each client reads the system's certificates.
fn scene() -> (tokio::runtime::Runtime, Scene) {
    let runtime = runtime();
    let scene = runtime.block_on(Scene::start());
    (runtime, scene)
}

/// Runs a property over hostile texts and names.
fn check(cases: u32, property: impl Fn(&str, &str) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome =
        TestRunner::new(config).run(&(hostile(), hostile()), |(text, name)| property(&text, &name));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn discord_shows_hostile_text_as_text() {
    let (runtime, scene) = scene();
    check(300, |text, name| {
        runtime.block_on(async {
            scene.receiver.reset();
            scene.discord(&with(text, name, ParcelKind::Alert)).await.unwrap();
            scene.discord(&with(text, name, ParcelKind::Retraction)).await.unwrap();
            for got in scene.receiver.journal() {
                prop_assert_eq!(&got.violations, &[] as &[String]);
                let message = got.json();
                prop_assert_eq!(&message["allowed_mentions"], &json!({ "parse": [] }));
                let content = message["content"].as_str().unwrap().to_owned();
                let seen = read_discord(&content).map_err(TestCaseError::fail)?;
                let expected = visible(text);
                if expected.trim().is_empty() || seen.ends_with('…') {
                    continue;
                }
                prop_assert!(seen.ends_with(&expected), "{:?} became {:?}", expected, seen);
            }
            Ok(())
        })
    });
}

#[test]
fn slack_shows_hostile_text_as_text() {
    let (runtime, scene) = scene();
    check(300, |text, name| {
        runtime.block_on(async {
            scene.receiver.reset();
            scene.slack(&with(text, name, ParcelKind::Alert)).await.unwrap();
            let got = scene.receiver.journal().pop().unwrap();
            prop_assert_eq!(&got.violations, &[] as &[String]);
            let message = got.json();
            let mut seen = String::new();
            let mut texts = vec![message["text"].as_str().unwrap()];
            for block in message["blocks"].as_array().unwrap() {
                prop_assert_eq!(&block["text"]["type"], "plain_text");
                prop_assert_eq!(&block["text"]["emoji"], false);
                let text = block["text"]["text"].as_str().unwrap();
                texts.push(text);
                seen.push_str(text);
            }
            for text in texts {
                prop_assert!(!text.contains(['<', '>']), "{}", text);
                let entities = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                prop_assert!(!entities.contains('&'), "{}", text);
            }
            let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            let expected = visible(text);
            if !expected.trim().is_empty() {
                prop_assert_eq!(seen, expected);
            }
            Ok(())
        })
    });
}

#[test]
fn mail_headers_cannot_be_injected() {
    let runtime = runtime();
    check(200, |text, name| {
        runtime.block_on(async {
            let server = SmtpServer::start().await.unwrap();
            let mut parcel = with(text, name, ParcelKind::Retraction);
            (parcel.id, parcel.reply_to) = (text.to_owned(), Some(name.to_owned()));
            mail(&mail_sender(&server), &parcel).await.unwrap();
            prop_assert_eq!(server.violations(), [] as [String; 0]);
            let journal = server.journal();
            prop_assert_eq!(journal.len(), 1);
            prop_assert_eq!(&journal[0].to, &["ops@example.com", "b@example.org"]);
            let known = [
                "from",
                "date",
                "message-id",
                "subject",
                "content-type",
                "to",
                "in-reply-to",
                "references",
                "content-transfer-encoding",
                "auto-submitted",
                "mime-version",
            ];
            let mut seen = std::collections::BTreeSet::new();
            for (header, value) in journal[0].headers() {
                prop_assert!(known.contains(&header.as_str()), "{}: {}", header, value);
                prop_assert!(seen.insert(header.clone()), "{} twice", header);
            }
            let body = decoded(&journal[0]).replace("\r\n", "\n");
            prop_assert!(
                body.ends_with(&format!("{}\n", visible(text).replace("\r\n", "\n"))),
                "{:?}",
                body
            );
            Ok(())
        })
    });
}

#[tokio::test]
async fn a_megabyte_is_cut_to_what_each_channel_takes() {
    let scene = Scene::start().await;
    for piece in ["x", "&", "*", "\u{10ffff}", "é\n"] {
        let text = piece.repeat((1 << 20) / piece.len());
        let parcel = with(&text, &text, ParcelKind::Alert);
        scene.receiver.reset();
        scene.slack(&parcel).await.unwrap();
        scene.discord(&parcel).await.unwrap();
        for got in scene.receiver.journal() {
            assert_eq!(got.violations, [] as [String; 0], "{piece:?}");
            assert!(got.body.len() < 100_000 && got.body.contains('…'), "{piece:?}");
        }
        let server = SmtpServer::start().await.unwrap();
        mail(&mail_sender(&server), &parcel).await.unwrap();
        assert_eq!(server.violations(), [] as [String; 0], "{piece:?}");
        assert!(decoded(&server.journal()[0]).trim_end().ends_with('…'), "{piece:?}");
    }
}
