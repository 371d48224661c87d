//! The fields filter rules speak of, read from a span when a rule first asks, once for all destinations.

use std::borrow::Cow;
use std::cell::OnceCell;
use tracecast_destination::Field;
use tracecast_genai::{Cost, Generation, Usage};

type Text<'a> = OnceCell<Option<&'a str>>;
/// Two values a rule may mean.
type Either<'a> = OnceCell<[Option<&'a str>; 2]>;
type LongText<'a> = OnceCell<Option<Cow<'a, str>>>;

/// The fields of one span.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    span: Generation<'a>,
    api_key_name: Option<&'a str>,
    models: Either<'a>,
    providers: Either<'a>,
    session_id: Text<'a>,
    user_id: Text<'a>,
    finish_reason: LongText<'a>,
    input: LongText<'a>,
    output: LongText<'a>,
    usage: OnceCell<Usage>,
    cost: OnceCell<Cost>,
}

impl<'a> Fields<'a> {
    /// `api_key_name`: the credential's, which wins over the span's own.
    pub(crate) fn new(span: Generation<'a>, api_key_name: Option<&'a str>) -> Fields<'a> {
        Fields {
            span,
            api_key_name,
            models: Either::new(),
            providers: Either::new(),
            session_id: Text::new(),
            user_id: Text::new(),
            finish_reason: LongText::new(),
            input: LongText::new(),
            output: LongText::new(),
            usage: OnceCell::new(),
            cost: OnceCell::new(),
        }
    }

    /// The readings of a text field, any of which may match; numeric fields have none.
    #[inline]
    pub(crate) fn texts(&self, field: Field) -> [Option<&str>; 2] {
        let span = &self.span;
        match field {
            Field::Model => *self.models.get_or_init(|| [span.model(), span.response_model()]),
            Field::Provider => *self.providers.get_or_init(|| [span.provider_name(), span.provider_slug()]),
            Field::SessionId => [*self.session_id.get_or_init(|| span.session_id()), None],
            Field::UserId => [*self.user_id.get_or_init(|| span.user_id()), None],
            Field::ApiKeyName => [self.api_key_name.or_else(|| span.api_key_name()), None],
            Field::FinishReason => [self.finish_reason.get_or_init(|| span.finish_reason()).as_deref(), None],
            Field::Input => [self.input.get_or_init(|| span.input_text()).as_deref(), None],
            Field::Output => [self.output.get_or_init(|| span.output_text()).as_deref(), None],
            Field::TotalCost | Field::TotalTokens | Field::PromptTokens | Field::CompletionTokens => {
                [None, None]
            }
        }
    }

    /// The value of a numeric field; text fields have none. A total that was not stated is the sum of its
    /// parts if both are there.
    pub(crate) fn number(&self, field: Field) -> Option<f64> {
        let tokens = |count: u64| count as f64;
        match field {
            Field::TotalCost => {
                let cost = self.cost.get_or_init(|| self.span.cost());
                cost.total.or_else(|| Some(cost.input? + cost.output?))
            }
            Field::TotalTokens => {
                let usage = self.usage();
                usage.total.or_else(|| Some(usage.input?.saturating_add(usage.output?))).map(tokens)
            }
            Field::PromptTokens => self.usage().input.map(tokens),
            Field::CompletionTokens => self.usage().output.map(tokens),
            _ => None,
        }
    }

    fn usage(&self) -> &Usage {
        self.usage.get_or_init(|| self.span.usage())
    }
}
