//! Who may publish and play, decided from the configuration.
//!
//! Owns: the answer to every [`Request`] of the gateway. In `weir dev` everything is open; in `weir serve` publishing
//! needs a configured key, given with the name or in place of it (CONTRACT 1.1).

use tokio::sync::mpsc;
use weir_hub::{Decision, Grant, KeyId, Refusal, Request, Role};

use crate::config::{Mode, PublishKey, PublishKeys};

/// Decides requests until nobody can make one any more.
pub async fn decide(mut pending: mpsc::Receiver<Request>, mode: Mode, keys: PublishKeys) {
    while let Some(request) = pending.recv().await {
        let decision = decision(&request, mode, &keys);
        request.decide(decision);
    }
}

fn decision(request: &Request, mode: Mode, keys: &PublishKeys) -> Decision {
    let shown = request.key.as_ref().map(|key| key.expose());
    let key = shown.map(|shown| KeyId(PublishKey::id(shown)));
    let granted = Grant { name: request.name.clone(), key };
    if request.role == Role::Play || mode == Mode::Dev {
        return Ok(granted);
    }
    match shown {
        Some(shown) if keys.allow(&request.name, shown) => Ok(granted),
        Some(_) => Err(Refusal::Denied),
        // Encoders with a single field put the bare key where the name goes.
        None => {
            let shown = request.name.as_str();
            let name = keys.find(shown).ok_or(Refusal::Denied)?;
            Ok(Grant { name: name.clone(), key: Some(KeyId(PublishKey::id(shown))) })
        }
    }
}
