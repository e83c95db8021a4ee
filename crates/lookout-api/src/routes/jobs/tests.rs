//! Jobs over HTTP: made, changed, triggered, and what wrong ones are told.

use http::Method;
use lookout_store::Ended;
use serde_json::{Value, json};

use crate::testing::{Got, TestApi, config};

async fn call(api: &TestApi, method: Method, path: &str, body: &Value) -> Got {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    api.call(method, path, &[], &body).await
}

fn job() -> Value {
    json!({ "name": "nightly", "kind": "count", "schedule": "30 2 * * *", "zone": "Europe/Berlin" })
}

#[tokio::test]
async fn a_job_lives_and_ends_over_http() {
    let api = TestApi::start(config()).await;
    let got = call(&api, Method::POST, "/v1/jobs", &job()).await;
    assert_eq!((got.status.as_u16(), got.header("location")), (201, "/v1/jobs/nightly"));
    let made = got.json();
    let expected = json!({
        "name": "nightly", "kind": "count", "settings": {}, "schedule": "30 2 * * *",
        "zone": "Europe/Berlin", "misfire": "once", "timeoutSeconds": 600,
        "retries": 3, "paused": false, "missedTicks": 0, "error": null,
        "createdAt": "2025-10-09T08:53:20Z", "updatedAt": "2025-10-09T08:53:20Z",
        "deletedAt": null,
        "nextRuns": [
            { "scheduledAt": "2025-10-10T00:30:00Z", "local": "2025-10-10T02:30:00+02:00" },
            { "scheduledAt": "2025-10-11T00:30:00Z", "local": "2025-10-11T02:30:00+02:00" },
            { "scheduledAt": "2025-10-12T00:30:00Z", "local": "2025-10-12T02:30:00+02:00" },
            { "scheduledAt": "2025-10-13T00:30:00Z", "local": "2025-10-13T02:30:00+02:00" },
            { "scheduledAt": "2025-10-14T00:30:00Z", "local": "2025-10-14T02:30:00+02:00" },
        ],
    });
    assert_eq!(made, expected);
    assert_eq!(api.get("/v1/jobs/nightly").await.json(), made);
    assert_eq!(api.get("/v1/jobs").await.json(), json!({ "items": [made], "next": null }));
    call(&api, Method::POST, "/v1/jobs", &job()).await.problem(409, "conflict");

    let change = json!({
        "kind": "count", "schedule": "0 0 12 * * MON", "settings": { "step": 3 },
        "misfire": "all", "catchUpMax": 4, "timeoutSeconds": 5, "retries": 0,
    });
    let got = call(&api, Method::PUT, "/v1/jobs/nightly", &change).await.json();
    assert_eq!((&got["zone"], &got["catchUpMax"]), (&json!("UTC"), &json!(4)));
    assert_eq!(got["nextRuns"][0]["local"], "2025-10-13T12:00:00+00:00");

    let got = call(&api, Method::POST, "/v1/jobs/nightly/pause", &Value::Null).await.json();
    assert_eq!((&got["paused"], &got["nextRuns"]), (&json!(true), &json!([])));
    let got = call(&api, Method::POST, "/v1/jobs/nightly/resume", &Value::Null).await.json();
    assert_eq!((&got["paused"], got["nextRuns"][4].is_object()), (&json!(false), true));
    assert_eq!(call(&api, Method::DELETE, "/v1/jobs/nightly", &Value::Null).await.status, 204);
    api.get("/v1/jobs/nightly").await.problem(404, "not_found");
    assert_eq!(api.get("/v1/jobs").await.json()["items"], json!([]));
    let deleted = api.get("/v1/jobs?deleted=true").await.json();
    assert_eq!(deleted["items"][0]["deletedAt"], "2025-10-09T08:53:20Z");
    let got = call(&api, Method::POST, "/v1/jobs", &job()).await;
    assert!(got.problem(409, "conflict").contains("restore it"));
    assert_eq!(
        call(&api, Method::POST, "/v1/jobs/nightly/restore", &Value::Null).await.json()["name"],
        "nightly"
    );
    assert_eq!(api.get("/v1/jobs/nightly").await.status, 200);
}

#[tokio::test]
async fn wrong_jobs_are_told_which_member_and_what_is_allowed() {
    let api = TestApi::start(config()).await;
    for (member, value, reason) in [
        ("name", json!("Nightly Job"), "1 to 63 of a-z, 0-9, - and _"),
        ("name", json!(5), "`name` is missing, or no text"),
        ("kind", json!("cuont"), "no kind `cuont`; there are: `count`, `purge`"),
        ("settings", json!({ "stp": 1 }), "no setting `stp`"),
        ("schedule", json!("30 25 * * *"), "`30 25 * * *` is no schedule"),
        ("schedule", json!("every day"), "it has 2 fields"),
        ("schedule", json!("@every 15m"), "one of @yearly, @annually, @monthly"),
        ("schedule", json!("0 0 30 2 *"), "does not come within 50 years"),
        ("zone", json!("Europe/Berln"), "did you mean `Europe/Berlin`?"),
        ("zone", json!("CEST"), "is no IANA time zone"),
        ("catchUpMax", json!(5), "goes with `\"misfire\": \"all\"` only"),
        ("timeoutSeconds", json!(0), "from 1 to 86400 seconds"),
        ("timeoutSeconds", json!(86_401), "from 1 to 86400 seconds"),
        ("retries", json!(11), "at most 10 times"),
    ] {
        let mut wrong = job();
        wrong[member] = value;
        let got = call(&api, Method::POST, "/v1/jobs", &wrong).await;
        let detail = got.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{detail}");
        assert_eq!(got.json()["pointer"], format!("/{member}"), "{detail}");
    }
    for (member, value, reason) in [
        ("misfire", json!("never"), "unknown variant `never`, expected one of `skip`, `once`"),
        ("schedule", Value::Null, "invalid type: null, expected a string"),
        ("settings", json!([]), "expected a map"),
        ("retries", json!(-1), "expected u32"),
        ("unknown", json!(1), "unknown field `unknown`"),
    ] {
        let mut wrong = job();
        wrong[member] = value;
        let got = call(&api, Method::POST, "/v1/jobs", &wrong).await;
        let detail = got.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{detail}");
    }
    for body in ["", "null", "[]", "7"] {
        let got = api.call(Method::POST, "/v1/jobs", &[], body).await;
        got.problem(400, "invalid_body");
    }
    api.call(Method::POST, "/v1/jobs", &[], "{").await.problem(400, "malformed_json");
    let all_of_none =
        json!({ "kind": "count", "schedule": "@daily", "misfire": "all", "catchUpMax": 0 });
    call(&api, Method::POST, "/v1/jobs", &job()).await;
    let got = call(&api, Method::PUT, "/v1/jobs/nightly", &all_of_none).await;
    assert!(got.problem(400, "invalid_body").contains("from 1 to 100"));
    // The name stands in the path alone.
    call(&api, Method::PUT, "/v1/jobs/nightly", &job()).await.problem(400, "invalid_body");
    assert_eq!(api.get("/v1/jobs").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_tick_triggered_twice_is_one_run() {
    let api = TestApi::start(config()).await;
    call(&api, Method::POST, "/v1/jobs", &job()).await;
    let tick = json!({ "scheduledAt": "2025-10-10T02:30:00+02:00" });
    let first = call(&api, Method::POST, "/v1/jobs/nightly/runs", &tick).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let run = first.json();
    assert_eq!((&run["state"], &run["trigger"]), (&json!("queued"), &json!("api")));
    assert_eq!(run["scheduledAt"], "2025-10-10T00:30:00Z");
    let path = format!("/v1/jobs/nightly/runs/{}", run["id"].as_str().unwrap());
    assert_eq!(first.header("location"), path);
    let again = call(&api, Method::POST, "/v1/jobs/nightly/runs", &tick).await;
    assert_eq!((again.status.as_u16(), again.json()), (202, run.clone()));
    // And a third time by the schedule itself.
    api.clock.advance(16 * 3_600_000);
    assert_eq!(api.store.insert_due_runs().await.unwrap().inserted, 0);
    assert_eq!(api.get("/v1/jobs/nightly/runs").await.json()["items"], json!([run]));

    let claimed = api.store.claim_run("count", 30_000).await.unwrap().unwrap();
    let running = api.get(&path).await.json();
    assert_eq!((&running["state"], &running["attempt"]), (&json!("running"), &json!(1)));
    assert_eq!(running["leaseUntil"], "2025-10-10T00:53:50Z");
    call(&api, Method::POST, &format!("{path}/retry"), &Value::Null).await.problem(409, "conflict");
    api.store.end_run(&claimed, Ended::Failed("no luck".into())).await.unwrap();
    let failed = api.get("/v1/jobs/nightly/runs?state=failed").await.json();
    assert_eq!(failed["items"][0]["error"], "no luck");
    assert_eq!(api.get("/v1/jobs/nightly/runs?state=done").await.json()["items"], json!([]));
    let got = call(&api, Method::POST, &format!("{path}/retry"), &Value::Null).await;
    assert_eq!((got.status.as_u16(), &got.json()["trigger"]), (202, &json!("retry")));

    // For now, with or without a body.
    for body in ["", "{}", "null"] {
        api.clock.advance(1);
        let got = api.call(Method::POST, "/v1/jobs/nightly/runs", &[], body).await;
        assert_eq!(got.status, 202, "{}", got.text);
    }
    let page = api.get("/v1/jobs/nightly/runs?limit=3").await.json();
    let next = page["next"].as_str().unwrap();
    let rest = api.get(&format!("/v1/jobs/nightly/runs?limit=3&cursor={next}")).await.json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_triggers_are_refused() {
    let api = TestApi::start(config()).await;
    call(&api, Method::POST, "/v1/jobs", &job()).await;
    for (body, reason) in [
        (json!({ "scheduledAt": "tomorrow" }), "RFC 3339"),
        (json!({ "scheduledAt": "2025-10-09T08:00:00.0001Z" }), "to the millisecond"),
        (json!({ "scheduledAt": "2025-10-01T00:00:00Z" }), "the last 7 days"),
        (json!({ "scheduledAt": "2025-10-11T00:00:00Z" }), "the next 24 hours"),
        (json!({ "scheduledAt": 5 }), "expected a string"),
        (json!({ "at": "2025-10-09T08:00:00Z" }), "unknown field `at`"),
    ] {
        let got = call(&api, Method::POST, "/v1/jobs/nightly/runs", &body).await;
        let detail = got.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{detail}");
    }
    for (method, path) in [
        (Method::POST, "/v1/jobs/nothing/runs"),
        (Method::GET, "/v1/jobs/nothing/runs"),
        (Method::GET, "/v1/jobs/nightly/runs/x"),
        (Method::POST, "/v1/jobs/nightly/runs/x/retry"),
        (Method::PUT, "/v1/jobs/nothing"),
        (Method::DELETE, "/v1/jobs/%00"),
        (Method::POST, "/v1/jobs/nothing/restore"),
        (Method::GET, "/v1/jobs/..%2f..%2fetc"),
    ] {
        call(&api, method, path, &Value::Null).await.problem(404, "not_found");
    }
    api.get("/v1/jobs/nightly/runs?state=lost").await.problem(400, "invalid_parameter");
    api.get("/v1/jobs?deleted=perhaps").await.problem(400, "invalid_parameter");
    api.get("/v1/jobs?limit=0").await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn jobs_are_their_tenants_and_ask_for_scopes() {
    let api = TestApi::start(config()).await;
    let (acme, other) = (api.key("acme", "*").await, api.key("other", "*").await);
    let reader = api.key("acme", "jobs:read").await;
    let as_acme = [("x-api-key", acme.as_str())];
    let as_other = [("x-api-key", other.as_str())];
    let as_reader = [("x-api-key", reader.as_str())];
    let body = job().to_string();
    assert_eq!(api.call(Method::POST, "/v1/jobs", &as_acme, &body).await.status, 201);
    let got = api.call(Method::POST, "/v1/jobs/nightly/runs", &as_acme, "").await;
    let run = format!("/v1/jobs/nightly/runs/{}", got.json()["id"].as_str().unwrap());
    for (method, path) in [
        (Method::GET, "/v1/jobs/nightly"),
        (Method::PUT, "/v1/jobs/nightly"),
        (Method::DELETE, "/v1/jobs/nightly"),
        (Method::POST, "/v1/jobs/nightly/pause"),
        (Method::POST, "/v1/jobs/nightly/resume"),
        (Method::POST, "/v1/jobs/nightly/restore"),
        (Method::POST, "/v1/jobs/nightly/runs"),
        (Method::GET, "/v1/jobs/nightly/runs"),
        (Method::GET, run.as_str()),
        (Method::POST, &format!("{run}/retry")),
    ] {
        let got = api.call(method.clone(), path, &as_other, "").await;
        got.problem(404, "not_found");
        let got = api.call(method.clone(), path, &as_reader, "").await;
        if method == Method::GET {
            assert_eq!(got.status, 200, "{path}");
        } else {
            got.problem(403, "missing_scope");
        }
    }
    assert_eq!(api.call(Method::GET, "/v1/jobs", &as_other, "").await.json()["items"], json!([]));
    let audit = api.call(Method::GET, "/v1/audit", &as_acme, "").await.json();
    let actions: Vec<_> = audit["items"].as_array().unwrap().iter().map(|e| &e["action"]).collect();
    assert_eq!(actions[..2], ["job.trigger", "job.create"]);
}
