//! `/metrics`: what the server measures, for Prometheus (CONTRACT 6, CONFORMANCE A7).
//!
//! Owns: the route, both text formats, and the count of HTTP requests. Everything else is read when somebody asks:
//! streams and sessions by `metrics::hub`, the process by `metrics::process`.
//! Labels are bounded: routes are templates, and a stream has a name here only once its publisher was let in.

mod family;
mod hub;
mod process;

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
pub use hub::Observed;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use weir_gateway::Gateway;

/// What Prometheus asks for first, and what the library writes.
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// The older format, for everybody else: a browser or curl shows it.
const PLAIN_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The label of a route that does not exist, and of a method that no route knows.
const OTHER: &str = "other";

/// Adds `/metrics`, and counts the requests of every route.
pub fn observe(router: Router, gateway: &Gateway, observed: Observed) -> Router {
    let requests = Requests::default();
    // A promised name is there from the first scrape on.
    let _ = requests.get_or_create(&RequestLabels {
        method: "GET",
        route: "/metrics".to_owned(),
        status: "2xx",
    });
    let mut registry = Registry::default();
    registry.register(
        "streaming_http_requests",
        "HTTP requests by route, counted when the head of the answer is ready",
        requests.clone(),
    );
    registry.register_collector(Box::new(hub::Collector::new(gateway, observed)));
    registry.register_collector(Box::<process::Collector>::default());
    let metrics = Router::new()
        .route("/metrics", get(scrape))
        .with_state(Arc::new(registry));
    router
        .merge(metrics)
        .layer(middleware::from_fn_with_state(requests, count))
}

async fn scrape(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let mut exposition = String::new();
    if text::encode(&mut exposition, &registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let (media_type, exposition) = if accepts_open_metrics(&headers) {
        (OPEN_METRICS_TYPE, exposition)
    } else {
        (PLAIN_TYPE, plain(&exposition))
    };
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::VARY, HeaderValue::from_static("Accept")),
    ];
    (headers, exposition).into_response()
}

fn accepts_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let media_type = range.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case(OPEN_METRICS)
    })
}

/// The older text format: there a family is called what its samples are called, and there is no type `info`.
fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, suffix, kind) = match family.split_once(' ') {
                Some((name, "counter")) => (name, "_total", "counter"),
                Some((name, "info")) => (name, "_info", "gauge"),
                Some((name, kind)) => (name, "", kind),
                None => (family, "", "untyped"),
            };
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
            );
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Requests by route. A request is a rare event beside the media that flows after it, so hashing its labels is cheap.
type Requests = Family<RequestLabels, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    /// The template of the route, never the path: paths hold names.
    route: String,
    /// The class of the status.
    status: &'static str,
}

async fn count(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let method = method_label(request.method());
    let template = request.extensions().get::<MatchedPath>();
    let route = template.map_or(OTHER, MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = status_label(response.status());
    requests
        .get_or_create(&RequestLabels {
            method,
            route,
            status,
        })
        .inc();
    response
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => OTHER,
    }
}

fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use axum::http::request;
    use weir_gateway::{
        deliver::hls::{Identity, Viewers},
        net::{client::TrustedProxies, listener::Connections},
        read_cache::{self, ReadCache},
    };
    use weir_hub::{Hub, Join, LagLimit, Limits, Moment, Publisher, Retention, Role};
    use weir_media::{SessionClock, StreamName};

    use super::*;
    use crate::ask;

    /// What Prometheus 2.42 sends.
    const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,\
         application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    /// The names that CONTRACT 6 promises, as far as there is something to measure.
    const PROMISED: [(&str, &str); 8] = [
        ("streaming_active_streams", "gauge"),
        ("streaming_total_viewers", "gauge"),
        ("streaming_http_requests_total", "counter"),
        ("streaming_cpu_percent", "gauge"),
        ("streaming_memory_bytes", "gauge"),
        ("streaming_cache_hits_total", "counter"),
        ("streaming_cache_misses_total", "counter"),
        ("streaming_cache_bytes", "gauge"),
    ];

    #[tokio::test]
    async fn the_first_scrape_has_every_promised_name_once() {
        let text = plain_text(&observed(&gateway())).await;
        for (name, kind) in PROMISED {
            let lines =
                |start: String| text.lines().filter(|line| line.starts_with(&start)).count();
            assert_eq!(lines(format!("# HELP {name} ")), 1, "{name}\n{text}");
            assert_eq!(lines(format!("# TYPE {name} {kind}")), 1, "{name}\n{text}");
            let samples = lines(format!("{name} ")) + lines(format!("{name}{{"));
            assert_eq!(samples, 1, "{name}\n{text}");
        }
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!(
            "\nstreaming_build_info{{version=\"{version}\"}} 1\n"
        )));
    }

    #[tokio::test]
    async fn every_series_belongs_to_one_family_and_is_there_once() {
        let gateway = gateway();
        let _publishers = publish(&gateway.hub, ["a", "b"]);
        let session = gateway
            .hub
            .sessions()
            .open(Role::Play, "rtmp", name("a"), Moment::now().at);
        session.add_bytes(5);
        let text = plain_text(&observed(&gateway)).await;
        let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().expect("a name");
                assert!(families.insert(family), "{family} is there twice");
            } else if !line.starts_with('#') {
                let (labelled, value) = line.rsplit_once(' ').expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert_eq!(labelled.split('{').next(), Some(family), "{line}");
                assert!(series.insert(labelled), "{line} is there twice");
            }
        }
        assert!(
            families
                .iter()
                .all(|name| name.starts_with("streaming_") || name.starts_with("process_"))
        );
    }

    #[tokio::test]
    async fn the_format_is_what_was_asked_for() {
        let router = observed(&gateway());
        for (accept, expected) in [
            (Some(PROMETHEUS), OPEN_METRICS_TYPE),
            (
                Some("text/html, Application/OpenMetrics-Text"),
                OPEN_METRICS_TYPE,
            ),
            (Some("text/plain;version=0.0.4"), PLAIN_TYPE),
            (Some("*/*"), PLAIN_TYPE),
            (None, PLAIN_TYPE),
        ] {
            let mut request = request::Builder::new().uri("/metrics");
            if let Some(accept) = accept {
                request = request.header(header::ACCEPT, accept);
            }
            let answer = ask::ask(&router, request).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.headers[header::CONTENT_TYPE], expected, "{accept:?}");
            let open_metrics = expected == OPEN_METRICS_TYPE;
            assert_eq!(answer.text.ends_with("# EOF\n"), open_metrics, "{accept:?}");
            let counter = "# TYPE streaming_http_requests counter\n";
            assert_eq!(answer.text.contains(counter), open_metrics, "{accept:?}");
        }
    }

    #[test]
    fn plain_text_names_families_as_their_samples() {
        let open_metrics = "# HELP a Is a counter.\n# TYPE a counter\na_total{b=\"# c\"} 1\n\
            # HELP d Is a gauge.\n# TYPE d gauge\n# UNIT d bytes\nd 2\n\
            # HELP e Is built.\n# TYPE e info\ne_info{f=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_total Is a counter.\n# TYPE a_total counter\na_total{b=\"# c\"} 1\n\
            # HELP d Is a gauge.\n# TYPE d gauge\nd 2\n\
            # HELP e_info Is built.\n# TYPE e_info gauge\ne_info{f=\"1\"} 1\n";
        assert_eq!(plain(open_metrics), expected);
    }

    #[tokio::test]
    async fn requests_are_counted_by_template_and_never_by_name() {
        let routes = Router::new().route("/live/{name}", get(|| async { StatusCode::NOT_FOUND }));
        let router = observe(routes, &gateway(), nothing_else());
        for path in ["/live/marker-1", "/live/marker-2", "/marker/3/4"] {
            ask::get(&router, path).await;
        }
        ask::ask(
            &router,
            request::Builder::new()
                .method("MARKER")
                .uri("/live/marker-5"),
        )
        .await;
        let text = plain_text(&router).await;
        for (method, route, status, expected) in [
            ("GET", "/live/{name}", "4xx", 2),
            ("GET", OTHER, "4xx", 1),
            (OTHER, "/live/{name}", "4xx", 1),
            ("GET", "/metrics", "2xx", 0),
        ] {
            let series = format!(
                "\nstreaming_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {expected}\n"
            );
            assert!(text.contains(&series), "{series}{text}");
        }
        assert!(!text.to_lowercase().contains("marker"), "{text}");
        let again = plain_text(&router).await;
        assert!(
            again.contains("route=\"/metrics\",status=\"2xx\"} 1\n"),
            "{again}"
        );
    }

    #[tokio::test]
    async fn viewers_and_bytes_are_those_of_the_hub() {
        let gateway = gateway();
        let _publishers = publish(&gateway.hub, ["a", "b"]);
        let sessions = gateway.hub.sessions();
        let viewers = ["rtmp", "http-flv", "http-flv"]
            .map(|protocol| sessions.open(Role::Play, protocol, name("a"), Moment::now().at));
        for viewer in &viewers {
            viewer.add_bytes(100);
            viewer.add_skipped(2);
        }
        let router = observed(&gateway);
        let traffic = [
            "streaming_active_streams 2",
            "streaming_publishers{protocol=\"rtmp\"} 2",
            "streaming_sent_bytes_total{protocol=\"http-flv\"} 200",
            "streaming_sent_bytes_total{protocol=\"rtmp\"} 100",
            "streaming_skipped_items_total{protocol=\"http-flv\"} 4",
        ];
        check(&router, &traffic).await;
        check(
            &router,
            &[
                "streaming_total_viewers 3",
                "streaming_viewers{protocol=\"http-flv\"} 2",
                "streaming_viewers{protocol=\"rtmp\"} 1",
                "streaming_stream_viewers{stream=\"a\"} 3",
                "streaming_stream_viewers{stream=\"b\"} 0",
            ],
        )
        .await;
        drop(viewers);
        check(&router, &traffic).await;
        check(
            &router,
            &[
                "streaming_total_viewers 0",
                "streaming_stream_viewers{stream=\"a\"} 0",
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_family_has_a_thousand_series_at_most() {
        let gateway = gateway();
        let names: Vec<_> = (0..1_004).map(|number| format!("s{number}")).collect();
        let names = names.iter().map(String::as_str);
        // The oldest is called like the label, the youngest comes first in order of names.
        let _publishers = publish(&gateway.hub, [OTHER].into_iter().chain(names).chain(["a"]));
        let viewers = [OTHER, "s0", "s1003", "a"].map(|text| {
            gateway
                .hub
                .sessions()
                .open(Role::Play, "rtmp", name(text), Moment::now().at)
        });
        let router = observed(&gateway);
        let text = plain_text(&router).await;
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for family in families.filter_map(|line| line.split(' ').next()) {
            let start = format!("{family}{{");
            let series: Vec<_> = text
                .lines()
                .filter(|line| line.starts_with(&start))
                .collect();
            assert!(series.len() <= 1_000, "{family}: {}", series.len());
            let labels: BTreeSet<_> = series
                .iter()
                .filter_map(|line| line.rsplit_once(' '))
                .collect();
            assert_eq!(labels.len(), series.len(), "{family}");
        }
        check(
            &router,
            &[
                "streaming_active_streams 1006",
                "streaming_total_viewers 4",
                "streaming_stream_viewers{stream=\"s0\"} 1",
                "streaming_stream_viewers{stream=\"other\"} 3",
                "streaming_stream_repairs_total{stream=\"other\",kind=\"jumps\"} 0",
            ],
        )
        .await;
        assert!(
            !text.contains("stream=\"a\""),
            "the youngest shares its label"
        );
        drop(viewers);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut registry = Registry::default();
        let requests = Requests::default();
        registry.register("a", "Help", requests.clone());
        let route = "\"\n\\".to_owned();
        requests
            .get_or_create(&RequestLabels {
                method: "GET",
                route,
                status: "2xx",
            })
            .inc();
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a String takes everything");
        assert!(text.contains(r#"route="\"\n\\","#), "{text}");
    }

    /// Asserts that every one of these lines is in the answer.
    async fn check(router: &Router, lines: &[&str]) {
        let text = plain_text(router).await;
        for line in lines {
            assert!(text.lines().any(|known| known == *line), "{line}\n{text}");
        }
    }

    async fn plain_text(router: &Router) -> String {
        ask::get(router, "/metrics").await.text
    }

    fn observed(gateway: &Gateway) -> Router {
        observe(Router::new(), gateway, nothing_else())
    }

    fn nothing_else() -> Observed {
        Observed {
            connections: Connections::new(1, 0, TrustedProxies::default()),
            certificates: None,
            disk: None,
            cache: ReadCache::new(read_cache::Limits {
                entries_max: 1,
                bytes_max: 1,
            }),
            viewers: Viewers::new(
                Identity::Off,
                Duration::from_secs(1),
                TrustedProxies::default(),
            ),
        }
    }

    fn publish<'a>(hub: &Hub, names: impl IntoIterator<Item = &'a str>) -> Vec<Publisher> {
        let publish = |text| {
            hub.publish(
                &name(text),
                None,
                "rtmp",
                SessionClock::MS_32_BIT,
                Moment::now(),
            )
            .expect("there is room")
        };
        names.into_iter().map(publish).collect()
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }

    fn gateway() -> Gateway {
        let second = Duration::from_secs(1);
        let gop_cache = Retention {
            groups_max: 1,
            floor_ms: 0,
            span_ms_max: 1_000,
            bytes_max: 1 << 20,
        };
        Gateway {
            hub: Hub::new(Limits {
                streams_max: 2_000,
                publisher_grace: second,
                gop_cache,
            }),
            requests: weir_hub::Requests::channel().0,
            tasks: weir_gateway::net::tasks::Tasks::default(),
            derived: weir_gateway::derive::Derived::default(),
            on_demand: weir_gateway::on_demand::OnDemand::new(None, second),
            limits: weir_gateway::Limits {
                handshake_timeout: second,
                input_timeout: second,
                write_stall_timeout: second,
                keep_alive_timeout: second,
                viewer_lag: LagLimit {
                    ms_max: 1_000,
                    bytes_max: 1 << 20,
                },
                join: Join::NewestSync,
            },
        }
    }
}
