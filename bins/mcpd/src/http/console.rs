//! The console: pages for people, made at the server. It is a face as the routes of the API are: a page shows what the same functions
//! return to the same caller, and a form causes the same writes.
//!
//! Add a page: a file here with its handler and a template beside it; its route below; its section in `frame.rs` if it has a place in
//! the navigation.

mod access;
mod account;
pub(super) mod admission;
mod agents;
mod assets;
mod audit;
mod confirmation;
mod cookies;
mod cost;
mod failovers;
mod fields;
mod form;
mod frame;
mod links;
mod llm;
mod llms;
mod note;
mod page;
mod people;
mod person;
mod playground;
mod plot;
mod provider_sign_in;
mod records;
mod return_path;
mod revoke;
mod secrets;
mod sign_in;
mod subject;
mod text;
mod tokens;
mod usage;
mod visit;
mod why;

use std::sync::Arc;

use axum::{
    response::Redirect,
    routing::{MethodRouter, get, post},
};

use crate::app::App;

/// The routes of the console.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/console", get(async || Redirect::to("/console/"))),
        ("/console/", get(async || Redirect::to("/console/llms"))),
        ("/console/assets/{file}", get(assets::asset)),
        ("/console/sign-in", get(sign_in::page).post(sign_in::sign_in)),
        ("/console/sign-in/with/{provider}", get(provider_sign_in::begin)),
        ("/console/sign-in/return", get(provider_sign_in::callback)),
        ("/console/sign-out", post(sign_in::sign_out)),
        ("/console/llms", get(llms::page)),
        ("/console/llms/{name}", get(llm::page)),
        ("/console/llms/{name}/test", post(llm::test)),
        ("/console/playground", get(playground::page)),
        // Among the routes of inference by its name, so that prompts run where they do.
        ("/console/playground/infer", post(playground::infer)),
        ("/console/secrets", get(secrets::page).post(secrets::create)),
        ("/console/secrets/{name}", get(secrets::one).post(secrets::set)),
        ("/console/tokens", get(tokens::page).post(tokens::create)),
        ("/console/tokens/{name}", get(tokens::one)),
        ("/console/tokens/{name}/rotate", post(tokens::rotate)),
        ("/console/tokens/{name}/revoke", get(tokens::revoke_page).post(tokens::revoke)),
        ("/console/access", get(access::page)),
        ("/console/access/why", get(why::page)),
        ("/console/access/revoke", get(revoke::page).post(revoke::revoke)),
        ("/console/people", get(people::page)),
        ("/console/people/{kind}/{name}", get(person::page)),
        ("/console/people/{kind}/{name}/{action}", get(account::page).post(account::change)),
        ("/console/usage", get(usage::page)),
        ("/console/failovers", get(failovers::page)),
        ("/console/audit", get(audit::page)),
        ("/console/agents", get(agents::page)),
        ("/console/agents/{agent}", get(agents::one)),
    ]
}
