//! Variables of the environment that divert programs to a proxy: neither requests nor probes follow them.

use mcpctl_testkit::{
    daemons::{McpdOptions, McplocalOptions},
    deployment::Deployment,
    model_server::ModelServer,
    response::{content, header},
};
use reqwest::StatusCode;

const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "REQUEST_METHOD",
    "NO_PROXY",
];

#[tokio::test]
async fn proxy_variables_divert_nothing() {
    // Whatever comes to it would be answered, probes too.
    let proxy = ModelServer::start().await;
    let address = format!("http://{}", proxy.address());
    let value = |name: &str| if name == "NO_PROXY" { "example.com".to_owned() } else { address.clone() };
    let options = McplocalOptions {
        env: VARIABLES.iter().map(|name| (*name, value(name).into())).collect(),
        ..McplocalOptions::default()
    };
    let of_mcpd = McpdOptions {
        env: VARIABLES.iter().map(|name| (*name, value(name))).collect(),
        ..McpdOptions::default()
    };
    let mut deployment =
        Deployment::builder().mcpd(of_mcpd).options(options).separate_inference().start().await;
    assert_eq!(content(deployment.chat().await).await, "from the primary");
    deployment.provider.refuse().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    deployment.revoke().await;
    let denied = deployment.chat().await;
    assert_eq!((denied.status(), header(&denied, "mcpctl-failover")), (StatusCode::FORBIDDEN, None));
    deployment.mcpd.kill();
    let unreachable = deployment.chat().await;
    assert_eq!(
        (unreachable.status(), header(&unreachable, "mcpctl-failover")),
        (StatusCode::BAD_GATEWAY, None)
    );
    assert_eq!(proxy.connections(), 0, "something went to the proxy");
}
