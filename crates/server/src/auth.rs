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
    let granted = Grant {
        name: request.name.clone(),
        key,
    };
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
            Ok(Grant {
                name: name.clone(),
                key: Some(KeyId(PublishKey::id(shown))),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_hub::{Requests, Secret};
    use weir_media::StreamName;

    use super::*;

    const CAM_KEY: &str = "first-key-4711";
    const LOBBY_KEY: &str = "other-key-4712";
    const WRONG_KEY: &str = "wrong-key-4713";

    #[tokio::test]
    async fn serve_lets_publishers_with_their_key_in() {
        let first = Some(KeyId(PublishKey::id(CAM_KEY)));
        for (shown, key, expected) in [
            ("cam", Some(CAM_KEY), Ok("cam")),
            (CAM_KEY, None, Ok("cam")),
            (LOBBY_KEY, None, Ok("lobby")),
            ("cam", Some(LOBBY_KEY), Err(Refusal::Denied)),
            ("cam", Some(WRONG_KEY), Err(Refusal::Denied)),
            ("cam", Some(""), Err(Refusal::Denied)),
            ("cam", None, Err(Refusal::Denied)),
            // An unknown name is refused as a wrong key is, so that names cannot be probed.
            ("nobody", Some(WRONG_KEY), Err(Refusal::Denied)),
            ("nobody", Some(CAM_KEY), Err(Refusal::Denied)),
            ("nobody", None, Err(Refusal::Denied)),
            (WRONG_KEY, None, Err(Refusal::Denied)),
        ] {
            let decision = ask(Mode::Serve, Role::Publish, shown, key).await;
            let name = decision.as_ref().map(|grant| grant.name.as_str());
            assert_eq!(name, expected.as_ref().copied(), "{shown} {key:?}");
            if name == Ok("cam") {
                assert!(
                    decision.is_ok_and(|grant| grant.key == first),
                    "{shown} {key:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn both_forms_of_a_key_are_the_same_publisher() {
        let with_name = ask(Mode::Serve, Role::Publish, "cam", Some(CAM_KEY)).await;
        let bare = ask(Mode::Serve, Role::Publish, CAM_KEY, None).await;
        assert_eq!(
            with_name, bare,
            "else one could not take over from the other"
        );
        assert!(with_name.is_ok_and(|grant| grant.key.is_some()));
    }

    #[tokio::test]
    async fn dev_lets_everybody_publish() {
        for key in [None, Some(WRONG_KEY), Some(CAM_KEY)] {
            let grant = ask(Mode::Dev, Role::Publish, "cam", key)
                .await
                .expect("dev is open");
            assert_eq!(grant.name.as_str(), "cam");
            let id = key.map(|key| KeyId(PublishKey::id(key)));
            assert_eq!(
                grant.key, id,
                "publishers without a key are always distinct"
            );
        }
    }

    #[tokio::test]
    async fn everybody_may_play() {
        for mode in [Mode::Serve, Mode::Dev] {
            let grant = ask(mode, Role::Play, "cam", None)
                .await
                .expect("playing is open");
            assert_eq!((grant.name.as_str(), grant.key), ("cam", None));
        }
    }

    /// Asks a server that knows `cam` and `lobby`.
    async fn ask(mode: Mode, role: Role, shown: &str, key: Option<&str>) -> Decision {
        let mut keys = PublishKeys::default();
        for (text, key) in [("cam", CAM_KEY), ("lobby", LOBBY_KEY)] {
            keys.insert(name(text), PublishKey::new(key).expect("a key"))
                .expect("different keys");
        }
        let (requests, pending) = Requests::channel();
        let key = key.map(Secret::new);
        // Deciding ends with the last asker.
        let asked = async move { requests.ask(role, "rtmp", name(shown), key).await };
        let (decision, ()) = tokio::join!(asked, decide(pending, mode, keys));
        decision
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }
}
