# The example agents, for pods of the cluster tests. Standard library and the helper for agents; nothing is installed.
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}
WORKDIR /agent
ENV PYTHONPATH=/agent PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY session_manager/__init__.py session_manager/__init__.py
COPY session_manager/agent session_manager/agent
COPY examples examples
COPY tests/faults/agent.py faults/agent.py
USER 65532:65532
CMD ["python3", "-m", "session_manager.agent.echo"]
