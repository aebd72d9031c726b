//! `/metrics`: placeholder while the collector is written.
use axum::Router;
use weir_gateway::Gateway;

/// Adds nothing yet.
pub fn observe(router: Router, _gateway: &Gateway) -> Router {
    router
}
