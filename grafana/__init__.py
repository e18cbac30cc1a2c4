"""The Grafana dashboard (made by `grafana.dashboard`), its provisioning and the Prometheus rules."""
