//! Creating a sale, once.

use std::time::Duration;

use seckill_api::{ProblemKind, SaleView};
use seckill_core::NewSale;

use crate::admin::Admin;
use crate::calls;
use crate::error::Error;
use crate::http::Made;

/// How often the creation of a sale is sent at the most.
const TRIES: u32 = 5;
/// The pause after the first try; after the second one it is twice as long, and so on.
const PAUSE: Duration = Duration::from_secs(1);

impl Admin {
    /// Sends the request for a new sale once; scope `sales`. `key` names the request, with 1 to 255 visible ASCII characters: under
    /// the same key the same request opens no second sale. Without one, every request opens a sale.
    ///
    /// # Errors
    /// The sale is refused, or there is no answer.
    pub async fn create_sale_once(&self, sale: &NewSale, key: Option<&str>) -> Result<Made<SaleView>, Error> {
        let mut request = self.http.request(calls::CREATE_SALE, &[]).json(sale);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await?.made()
    }

    /// Creates a sale; scope `sales`. Where it is open whether the sale exists, the same request is sent again under the same key, up to
    /// 5 times within about 10 s; `again` is told why before each time.
    ///
    /// # Errors
    /// The sale is refused, or nobody listens at the address: no sale was created. [`Error::Unsettled`]: nobody knows.
    pub async fn create_sale(
        &self,
        sale: &NewSale,
        key: &str,
        mut again: impl FnMut(&Error),
    ) -> Result<Made<SaleView>, Error> {
        for tries in 1.. {
            let error = match self.create_sale_once(sale, Some(key)).await {
                Ok(made) => return Ok(made),
                Err(error) if is_open(&error, tries) => error,
                Err(error) => return Err(error),
            };
            if tries == TRIES {
                return Err(Error::Unsettled { tries, last: Box::new(error) });
            }
            again(&error);
            tokio::time::sleep(PAUSE * tries).await;
        }
        unreachable!("the last try has returned")
    }
}

/// Whether a sale may exist after this, or come to exist by a request that is under way.
fn is_open(error: &Error, tries: u32) -> bool {
    match error {
        Error::Refused { problem, .. } => match problem.kind {
            ProblemKind::SaleUnknown | ProblemKind::RequestUnderWay => true,
            // Once it is open whether the sale exists, a server that is away or has no time does not settle it.
            _ => tries > 1 && (problem.status >= 500 || problem.status == 429),
        },
        Error::AnswerLost { .. } => true,
        Error::Unreadable { status, .. } => tries > 1 && *status >= 500,
        // Nobody listens there, so nothing has happened; unless an earlier try was heard.
        Error::NoConnection { .. } => tries > 1,
        Error::Unsendable { .. } | Error::Server { .. } | Error::Unsettled { .. } => false,
    }
}
