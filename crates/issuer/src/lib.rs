//! An OpenID provider as mcpd uses it: its endpoints and keys, and the tokens that it signs. It knows neither users nor
//! tokens of mcpd.

mod exchange;
mod issuer;
mod jwt;

pub use exchange::{AuthorizationCode, DeviceAuthorization, ExchangeError, OidcClient};
pub use issuer::{Issuer, IssuerError, Lifetime, Lifetimes, Metadata, VerifyError};
pub use jwt::{
    Claims, Expected, Keys, MAX_TOKEN_BYTES, TokenError, TokenKind, audiences, named_audiences, named_issuer,
    verify,
};
