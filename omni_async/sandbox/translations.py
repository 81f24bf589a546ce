"""The messages of failed tasks in the languages of the service, chosen with `language`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


REVIEW = "The request was rejected by content review"
FAILED = "upstream generation failed"
TIMEOUT = "upstream timeout"
QUOTA = "upstream quota exhausted, please try again later"

_MESSAGES: Mapping[str, tuple[str, str, str, str]] = MappingProxyType(
    {
        "en": (
            "The content was rejected by moderation.",
            "The generation failed.",
            "The generation timed out.",
            "The quota is used up. Please try again later.",
        ),
        "zh": ("内容未通过审核。", "生成失败。", "生成超时。", "配额已用完，请稍后再试。"),
        "ja": (
            "コンテンツは審査で拒否されました。",
            "生成に失敗しました。",
            "生成がタイムアウトしました。",
            "利用枠を使い切りました。しばらくしてから再試行してください。",
        ),
        "ko": (
            "콘텐츠가 심사에서 거부되었습니다.",
            "생성에 실패했습니다.",
            "생성 시간이 초과되었습니다.",
            "할당량이 소진되었습니다. 나중에 다시 시도하세요.",
        ),
        "ru": (
            "Содержимое отклонено модерацией.",
            "Ошибка генерации.",
            "Превышено время генерации.",
            "Квота исчерпана. Повторите попытку позже.",
        ),
        "fr": (
            "Le contenu a été refusé par la modération.",
            "La génération a échoué.",
            "La génération a expiré.",
            "Le quota est épuisé. Veuillez réessayer plus tard.",
        ),
        "de": (
            "Der Inhalt wurde von der Moderation abgelehnt.",
            "Die Generierung ist fehlgeschlagen.",
            "Zeitüberschreitung bei der Generierung.",
            "Das Kontingent ist aufgebraucht. Bitte versuchen Sie es später erneut.",
        ),
        "id": (
            "Konten ditolak oleh moderasi.",
            "Pembuatan gagal.",
            "Waktu pembuatan habis.",
            "Kuota habis. Silakan coba lagi nanti.",
        ),
        "pt": (
            "O conteúdo foi recusado pela moderação.",
            "A geração falhou.",
            "O tempo de geração esgotou-se.",
            "A cota foi esgotada. Tente novamente mais tarde.",
        ),
        "es": (
            "El contenido fue rechazado por la moderación.",
            "La generación falló.",
            "Se agotó el tiempo de generación.",
            "La cuota se ha agotado. Inténtelo de nuevo más tarde.",
        ),
    }
)
LANGUAGES = tuple(_MESSAGES)
_ORDER = (REVIEW, FAILED, TIMEOUT, QUOTA)


def translate(message: str, language: object) -> str:
    """Return the message of a failed task in a language; as it is for any other language, and any other message."""
    known = _MESSAGES.get(language) if isinstance(language, str) else None
    return known[_ORDER.index(message)] if known is not None and message in _ORDER else message
