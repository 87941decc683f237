"""The schema: root types, access, and errors."""

import functools
import re
from typing import Any

import strawberry
from graphql import GraphQLEnumType, GraphQLError, GraphQLSchema
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types

from gateway.execution.inputs import compile_inputs
from resolvers.scalars import SCALARS
from schema.access import enforce
from schema.authors import Automation
from schema.contact_mutations import IdentityMutation
from schema.contacts import ContactMutation, ContactQuery
from schema.conversation_mutations import ConversationMutation
from schema.conversations import ConversationQuery
from schema.errors import log_unexpected
from schema.events import METADATA_TYPES, DefinitionQuery, EventMutation, EventQuery
from schema.extensions import extend
from schema.klaviyo import KlaviyoQuery
from schema.klaviyo_fields import EXTENSIONS
from schema.klaviyo_mutations import KlaviyoMutation
from schema.klaviyo_subscriptions import KlaviyoSubscription
from schema.messages import MessageMutation, MessageQuery
from schema.nodes import read_field
from schema.segments import SegmentMutation, SegmentQuery
from schema.subscriptions import StreamQuery, Subscription
from schema.teammates import TeammateMutation, TeammateQuery
from schema.ticket_mutations import TicketMutation
from schema.ticket_types import TicketTypeMutation, TicketTypeQuery
from schema.tickets import TicketQuery
from schema.tokens import TokenMutation
from schema.viewer import NodeQuery, Workspace

_SUGGESTION = re.compile(r" Did you mean [^?]*\?")


class Schema(strawberry.Schema):
    """Strawberry's schema with the gateway's error log."""

    @property
    def core(self) -> GraphQLSchema:
        return self._schema

    @staticmethod
    def remove_field_suggestion(error: GraphQLError) -> None:
        error.message = _SUGGESTION.sub("", error.message)

    def report_errors(self, errors: list[GraphQLError], context: object) -> None:
        if self.config.disable_field_suggestions:
            for error in errors:
                self.remove_field_suggestion(error)
        log_unexpected(errors, getattr(context, "request_id", "-"))

    def process_errors(
        self, errors: list[GraphQLError], execution_context: Any = None
    ) -> None:  # strawberry has removed suggestions before
        context = execution_context.context if execution_context else None
        log_unexpected(errors, getattr(context, "request_id", "-"))


def _suggest_when_asked(type_: GraphQLEnumType) -> None:
    """Search for similar names only if suggestions are on: graphql-core does it for errors that it drops."""
    coerce = type_.coerce_input_value

    def quietly(input_value: str, hide_suggestions: bool = True) -> object:
        return coerce(input_value, hide_suggestions)

    type_.coerce_input_value = quietly  # type: ignore[method-assign]


@functools.cache
def build_schema(*, suggestions: bool = False) -> Schema:
    """The public schema. With `suggestions`, errors name what is similar to an unknown name. Build it once per process."""
    for extension in EXTENSIONS:
        extend(extension)
    schema = Schema(
        query=merge_types(
            "Query",
            (
                NodeQuery,
                StreamQuery,
                ContactQuery,
                EventQuery,
                DefinitionQuery,
                SegmentQuery,
                TeammateQuery,
                TicketTypeQuery,
                MessageQuery,
                ConversationQuery,
                KlaviyoQuery,
                TicketQuery,
            ),
        ),
        mutation=merge_types(
            "Mutation",
            (
                EventMutation,
                ContactMutation,
                IdentityMutation,
                SegmentMutation,
                TokenMutation,
                TeammateMutation,
                TicketTypeMutation,
                MessageMutation,
                ConversationMutation,
                KlaviyoMutation,
                TicketMutation,
            ),
        ),
        subscription=merge_types("Subscription", (Subscription, KlaviyoSubscription)),
        types=[*METADATA_TYPES, Workspace, Automation],
        config=StrawberryConfig(
            default_resolver=read_field, scalar_map=SCALARS, disable_field_suggestions=not suggestions
        ),
    )
    for type_ in schema._schema.type_map.values():
        if isinstance(type_, GraphQLEnumType):
            _suggest_when_asked(type_)
    enforce(schema._schema)
    compile_inputs(schema._schema)
    return schema
