//! Tools that the operator declares in the configuration file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use remuda::emulator::{CallRequest, Resolved, SessionHandle, StopReason};
use serde_json::{Value, json};

use crate::bench::{Bench, PATIENCE, finish, until};

/// A server on standard input and output, in Bash. What `answers` says is done for each call: `$id` is the request's,
/// and `reply` answers it. It writes down what it hears.
const SERVER: &str = r#"
reply() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
text() { reply '{"content":[{"type":"text","text":"'"$1"'"}]}'; }
echo started >> "$HEARD"
env | grep -c ANTHROPIC >> "$HEARD"
while read -r line; do
    echo "$line" >> "$HEARD"
    id=; [[ $line =~ \"id\":([0-9]+) ]] && id=${BASH_REMATCH[1]}
    case $line in
        *'"initialize"'*) reply '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
        *'"ping"'*) reply '{}' ;;
        *'"tools/call"'*) ANSWERS ;;
    esac
done
"#;

struct Stage {
    bench: Bench,
    config: PathBuf,
    heard: PathBuf,
}

impl Stage {
    /// With this in the configuration file, in which `SERVER` is the command of a server that does `answers`.
    async fn new(config: &str, answers: &str) -> Self {
        let bench = Bench::new().await;
        let (heard, server) = (bench.dir.path().join("heard"), bench.dir.path().join("server"));
        let script = SERVER.replace("ANSWERS", answers).replace("$HEARD", heard.to_str().unwrap());
        let script = script.replace("HUNG", heard.with_file_name("hung").to_str().unwrap());
        std::fs::write(&server, script).unwrap();
        let path = bench.dir.path().join("remuda.toml");
        let command = format!("[\"/bin/bash\", \"{}\"]", server.display());
        std::fs::write(&path, config.replace("SERVER", &command)).unwrap();
        Self { bench, config: path, heard }
    }

    fn arguments(&self) -> [&str; 4] {
        ["--max-idle", "300ms", "--config", self.config.to_str().unwrap()]
    }

    fn heard(&self) -> String {
        std::fs::read_to_string(&self.heard).unwrap_or_default()
    }
}

async fn call(session: &SessionHandle, tool: &str, input: Value) -> Resolved {
    let calls = session.call(vec![CallRequest::custom(tool, input)]).unwrap();
    session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executable_in_the_sandbox_gets_json_and_prints_text_or_blocks() {
    let config = r#"
        [[tool]]
        name = "echo"
        command = ["/bin/bash", "-c", "cat; echo; id -un; pwd"]
        [[tool]]
        name = "picture"
        command = ["/bin/bash", "-c", '''
            echo '{"content": [{"type": "image", "source":
                {"type": "base64", "media_type": "image/png", "data": "iVBO"}}]}' ''']
        [[tool]]
        name = "sneaky"
        command = ["/bin/bash", "-c", '''
            echo '{"content": [{"type": "image", "source": {"type": "url", "url": "https://x.example"}}]}' ''']
        [[tool]]
        name = "missing"
        command = "/no/such"
        [[tool]]
        name = "slow"
        command = ["/bin/sleep", "300"]
        timeout = "300ms"
        [[mcp-server]]
        name = "inside"
        inside = true
        command = ["/bin/bash", "-c", '''
            reply() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$1" "$2"; }
            read -r line; reply 1 '{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}'
            read -r line; read -r line; reply 2 '{"content":[{"type":"text","text":"from inside"}]}'
        ''']
        [[tool]]
        name = "inside"
        server = "inside"
    "#;
    let stage = Stage::new(config, "").await;
    let running = stage.bench.run(&stage.arguments());
    let session = stage.bench.session();
    let echoed = call(&session, "echo", json!({"order": 42})).await;
    assert!(!echoed.result.is_error, "{echoed:?}");
    assert_eq!(echoed.result.text(), "{\"order\":42}\nagent\n/workspace");
    let picture = call(&session, "picture", json!({})).await;
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBO"});
    let blocks = serde_json::to_value(&picture.result.content).unwrap();
    assert_eq!(blocks, json!([{"type": "image", "source": source}]));
    let sneaky = call(&session, "sneaky", json!({})).await;
    assert!(sneaky.result.is_error && sneaky.result.text().contains("was not passed on"), "{sneaky:?}");
    let missing = call(&session, "missing", json!({})).await;
    let what = "missing: /no/such could not be started in the sandbox: no such file or directory";
    assert_eq!(missing.result.text(), what);
    assert_eq!(call(&session, "slow", json!({})).await.result.text(), "slow: timed out after 0.3s");
    assert_eq!(call(&session, "inside", json!({})).await.result.text(), "from inside");
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_this_host_is_started_once_and_told_whose_calls_they_are() {
    let config = r#"
        [[tool]]
        name = "search"
        server = "wiki"
        tool = "wiki_search"
        [[mcp-server]]
        name = "wiki"
        command = SERVER
    "#;
    let answers = r#"text found; echo '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'"#;
    let stage = Stage::new(config, answers).await;
    let running = stage.bench.run(&stage.arguments());
    let sessions = [stage.bench.session(), stage.bench.session()];
    for session in &sessions {
        assert_eq!(call(session, "search", json!({"for": "x"})).await.result.text(), "found");
    }
    // Another client may own this one.
    let foreign = sessions[0].call(vec![CallRequest::custom("nobodys", json!({}))]).unwrap();
    assert_eq!(call(&sessions[0], "search", json!({})).await.result.text(), "found");
    assert!(sessions[0].wait_resolved(&foreign[0], Duration::from_millis(300)).await.is_none());
    let heard = stage.heard();
    assert!(heard.starts_with("started\n0\n"), "no credential goes to it: {heard}");
    assert_eq!(heard.matches("started").count(), 1, "{heard}");
    let call: Value =
        serde_json::from_str(heard.lines().find(|line| line.contains("tools/call")).unwrap()).unwrap();
    assert_eq!(call["params"]["name"], "wiki_search");
    assert_eq!(call["params"]["arguments"], json!({"for": "x"}));
    assert_eq!(call["params"]["_meta"]["remuda/session"], sessions[0].id().as_str());
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_dies_or_talks_nonsense_costs_single_calls() {
    let config = r#"
        [[tool]]
        name = "do"
        server = "odd"
        timeout = "1s"
        [[mcp-server]]
        name = "odd"
        command = SERVER
        [[tool]]
        name = "gone"
        server = "none"
        [[mcp-server]]
        name = "none"
        command = "/no/such"
    "#;
    let answers = r#"case $line in
        *hang*) sleep 300 & echo $! > HUNG; wait ;;
        *die*) exit 3 ;;
        *nonsense*) echo nonsense; echo '{"json": "of its own"}'; reply '{"content": 5}' ;;
        *refuse*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no such tool"}}\n' "$id" ;;
        *huge*) text "$(head -c 200000 /dev/zero | tr '\0' x)" ;;
        *) text well ;;
    esac"#;
    let stage = Stage::new(config, answers).await;
    let running = stage.bench.run(&stage.arguments());
    let session = stage.bench.session();
    let ask = async |what: &str| call(&session, "do", json!({"what": what})).await.result;
    assert_eq!(ask("well").await.text(), "well");
    let hung = ask("hang").await;
    assert!(hung.is_error);
    assert_eq!(hung.text(), "do: timed out after 1s; nobody knows how far the call came");
    // Another one is started in its place as soon as it is known not to be there.
    while ask("well").await.text() != "well" {}
    let died = ask("die").await;
    assert!(died.is_error && died.text().contains("was lost while it had this call"), "{died:?}");
    assert_eq!(ask("well").await.text(), "well");
    let nonsense = ask("nonsense").await;
    assert!(nonsense.is_error, "{nonsense:?}");
    let refused = ask("refuse").await;
    assert_eq!(refused.text(), "do: the MCP server `odd` refused: no such tool");
    let huge = ask("huge").await;
    assert!(huge.text().len() < 110_000 && huge.text().ends_with("[output truncated]"));
    let gone = call(&session, "gone", json!({})).await.result;
    assert!(
        gone.is_error && gone.text().contains("`none` could not be reached: it could not be started"),
        "{gone:?}"
    );
    assert_eq!(stage.heard().matches("started").count(), 3, "{}", stage.heard());
    // Nothing is left of the one that hung.
    let pid: i32 =
        std::fs::read_to_string(stage.heard.with_file_name("hung")).unwrap().trim().parse().unwrap();
    let hung = rustix::process::Pid::from_raw(pid).unwrap();
    until("it is gone", || rustix::process::test_kill_process(hung).is_err()).await;
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_is_passed_on_to_the_server_and_a_restart_asks_nothing_again() {
    let config = r#"
        [[tool]]
        name = "order"
        server = "shop"
        [[mcp-server]]
        name = "shop"
        command = SERVER
    "#;
    let stage = Stage::new(config, ":").await;
    let arguments = ["--config", stage.config.to_str().unwrap()];
    let running = stage.bench.start(stage.bench.keeping(&arguments));
    let session = stage.bench.session();
    let calls = |stage: &Stage| stage.heard().matches("tools/call").count();
    let first = session.call(vec![CallRequest::custom("order", json!({}))]).unwrap();
    until("the server has the call", || calls(&stage) == 1).await;
    session.interrupt().unwrap();
    until("the server is told", || stage.heard().contains("notifications/cancelled")).await;
    assert!(session.wait_resolved(&first[0], PATIENCE).await.is_some());

    let second = session.call(vec![CallRequest::custom("order", json!({}))]).unwrap();
    until("the server has the call", || calls(&stage) == 2).await;
    running.kill().await;
    let running = stage.bench.start(stage.bench.keeping(&arguments));
    let resolved = session.wait_resolved(&second[0], PATIENCE).await.expect("it is answered");
    assert!(
        resolved.result.is_error && resolved.result.text().contains("it was not run again"),
        "{resolved:?}"
    );
    assert_eq!(calls(&stage), 2);
    session.rest(StopReason::EndTurn).unwrap();
    running.kill().await;
}

/// What a server of streamable HTTP has heard.
type Heard = Arc<Mutex<Vec<Value>>>;

async fn answer(State(heard): State<Heard>, headers: HeaderMap, Json(message): Json<Value>) -> Response {
    if headers.get("authorization").is_none_or(|token| token != "Bearer sesame") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    heard.lock().unwrap().push(message.clone());
    let result = match message["method"].as_str() {
        Some("initialize") => {
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}})
        }
        Some("tools/call") if message["params"]["arguments"]["fail"] == true => {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Some("tools/call") => json!({"content": [{"type": "text", "text": "shipped"}]}),
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_streamable_http_is_asked_with_its_token() {
    let heard = Heard::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/mcp", post(answer)).with_state(Arc::clone(&heard));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let config = format!(
        "[[tool]]\nname = \"order\"\nserver = \"shop\"\n[[mcp-server]]\nname = \"shop\"\nurl = \"http://{address}/mcp\"\n\
         token-file = \"TOKEN\"\n"
    );
    let stage = Stage::new(&config, "").await;
    let token = stage.bench.dir.path().join("token");
    std::fs::write(&token, "sesame\n").unwrap();
    let text = std::fs::read_to_string(&stage.config).unwrap().replace("TOKEN", token.to_str().unwrap());
    std::fs::write(&stage.config, text).unwrap();
    let running = stage.bench.run(&stage.arguments());
    let session = stage.bench.session();
    assert_eq!(call(&session, "order", json!({})).await.result.text(), "shipped");
    let failed = call(&session, "order", json!({"fail": true})).await.result;
    assert!(failed.is_error && failed.text().contains("the MCP server `shop`"), "{failed:?}");
    assert!(!failed.text().contains("sesame"), "{failed:?}");
    assert_eq!(call(&session, "order", json!({})).await.result.text(), "shipped");
    let calls = heard.lock().unwrap().iter().filter(|message| message["method"] == "tools/call").count();
    assert_eq!(calls, 3, "nothing is asked twice");
    server.abort();
    let gone = call(&session, "order", json!({})).await.result;
    assert!(gone.is_error && gone.text().contains("`shop`"), "{gone:?}");
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_of_the_tables_is_told_with_its_line() {
    let config = "max-sesions = 5\n[[tool]]\nname = 'bash'\ncommand = 'x'\n\n[[tool]]\nname = 'a'\n\n[[mcp-server]]\nname = 's'\nurl = 'nowhere'\n";
    let stage = Stage::new(config, "").await;
    let ended = finish(&mut stage.bench.command(&stage.arguments())).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    for said in [
        "\n  line 1: there is no `max-sesions`; `max-sessions` is similar\n",
        "\n  line 3: tool 1: `name`: expected another name: `bash` is a tool of the agent's own set\n",
        "\n  line 6: tool 2: `command`: expected either this or `server`, which says who runs the tool\n",
        "\n  line 11: mcp-server 1: `url`: expected an address, as in \"https://tools.example/mcp\"\n",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    let config = "[[mcp-server]]\nname = 's'\nurl = 'http://x'\ntoken-file = '/no/such'\n";
    std::fs::write(&stage.config, config).unwrap();
    let ended = finish(&mut stage.bench.command(&stage.arguments())).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let said = "mcp-server `s`: could not read the token from /no/such: No such file";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert!(Path::new(&stage.config).exists());
}
