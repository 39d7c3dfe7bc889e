"""The study browser: a Streamlit application over the studies of a storage. It only reads."""
