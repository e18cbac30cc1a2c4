"""The tier that accepts and decides: journal, dispatcher, view and API of the orchestration node."""
