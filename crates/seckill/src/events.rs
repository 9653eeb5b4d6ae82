//! The commands that receive events: `seckill subscribe` and `seckill events tail`. They use the event bus alone, so a gateway
//! that is busy, or not there, is nothing to them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::RngExt;
use seckill_core::{EventBody, EventBus, EventPattern, SubscriberName};
use seckill_events::deliver::{Delivery, Lines, Sink, deliver};
use seckill_events::webhook::{MIN_SECRET, Webhook};
use tokio::time::sleep;
use url::Url;

use crate::cli::events::{EventsArgs, EventsCommand, SubscribeArgs, TailArgs};
use crate::{backend, cli, telemetry};

/// What is in hand at the end is given back by a task of the bus; this is its time.
const GIVING_BACK: Duration = Duration::from_millis(200);
/// How long to try to remove the name of a tail.
const REMOVING: Duration = Duration::from_secs(5);
const REMOVE_AGAIN: Duration = Duration::from_millis(100);

/// `seckill subscribe`
pub(crate) async fn subscribe(args: SubscribeArgs) -> Result<ExitCode> {
    let mut sink: Box<dyn Sink> = match &args.webhook {
        None => Box::new(Lines(tokio::io::stdout())),
        Some(url) => match webhook(url, &args).await? {
            Ok(webhook) => Box::new(webhook),
            Err(wrong) => return Ok(cli::usage_error(&wrong)),
        },
    };
    warn_of_unknown(&args.on);
    let shutdown = telemetry::shutdown_on_signal()?;
    let bus = backend::events(&args.events).await?;
    let delivery = Delivery { name: &args.name, patterns: &args.on, count: args.count };
    let ended = deliver(&*bus, delivery, &mut *sink, shutdown).await;
    sleep(GIVING_BACK).await;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// The webhook of the flags, or what is wrong with them.
async fn webhook(url: &Url, args: &SubscribeArgs) -> Result<Result<Webhook, String>> {
    let secret = args.webhook_secret()?.filter(|secret| secret.len() >= MIN_SECRET);
    let Some(secret) = secret else {
        return Ok(Err(format!(
            "--webhook needs a secret that signs, {MIN_SECRET} characters or more: give --webhook-secret or --webhook-secret-file, \
             for example the output of `openssl rand -hex 32`"
        )));
    };
    let allow = args.allow_private_addresses;
    let refused = |wrong| format!("--webhook: {wrong} (--allow-private-addresses)");
    let webhook = match Webhook::new(url, secret.as_bytes(), allow) {
        Ok(webhook) => webhook,
        Err(wrong) if !allow && url.domain().is_none() => return Ok(Err(refused(wrong))),
        Err(wrong) => return Ok(Err(format!("--webhook: {wrong}"))),
    };
    let checked = webhook.check_address().await;
    Ok(checked.map(|()| webhook).map_err(refused))
}

/// `seckill events …`
pub(crate) async fn events(args: EventsArgs) -> Result<ExitCode> {
    match args.command {
        EventsCommand::Tail(args) => tail(args).await,
    }
}

async fn tail(args: TailArgs) -> Result<ExitCode> {
    warn_of_unknown(&args.on);
    // Before the name exists: a signal from here on ends with its removal.
    let shutdown = telemetry::shutdown_on_signal()?;
    let bus = backend::events(&args.events).await?;
    let name = temporary_name()?;
    let delivery = Delivery { name: &name, patterns: &args.on, count: args.count };
    let ended = deliver(&*bus, delivery, &mut Lines(tokio::io::stdout()), shutdown).await;
    let removed = remove(&*bus, &name).await;
    ended?;
    removed?;
    Ok(ExitCode::SUCCESS)
}

fn temporary_name() -> Result<SubscriberName> {
    const CHARACTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = rand::rng();
    let end: String =
        (0..8).map(|_| char::from(CHARACTERS[random.random_range(0..CHARACTERS.len())])).collect();
    format!("tail-{end}").parse().map_err(anyhow::Error::msg)
}

/// Tries again for a while: what was received under the name until now may still be on its way out.
async fn remove(bus: &dyn EventBus, name: &SubscriberName) -> Result<()> {
    let until = Instant::now() + REMOVING;
    loop {
        match bus.unsubscribe(name).await {
            Ok(_) => return Ok(()),
            Err(_) if Instant::now() < until => sleep(REMOVE_AGAIN).await,
            Err(fault) => {
                return Err(fault).with_context(|| {
                    format!("{name} gathers events from now on; remove it: seckill subscriber remove {name}")
                });
            }
        }
    }
}

/// A pattern with a slip of the pen would wait for ever. It is no error: a newer seckill may have more types.
fn warn_of_unknown(patterns: &[EventPattern]) {
    for pattern in patterns {
        if !EventBody::KINDS.iter().any(|kind| pattern.matches(kind)) {
            let (known, pattern) = (EventBody::KINDS.join(", "), pattern.as_str());
            eprintln!("no event that this seckill knows is of a type like {pattern}; it knows {known}");
        }
    }
}
