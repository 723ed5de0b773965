package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"vindu/clinic/alerts"
)

// newAlerts keeps what operators say of conditions, and tells a webhook of what they have not, if the configuration names one.
func (s *server) newAlerts(ctx context.Context, log *slog.Logger) (err error) {
	a := s.config.Alerts
	c := alerts.Config{Store: s.store, Audit: s.audit, Fleet: s.fleet, Homes: s.register, Alarms: s.register, After: time.Duration(a.After) * time.Minute, Log: log}
	if a.Webhook != "" {
		if err := private(a.Secret, 0o077); err != nil {
			return fmt.Errorf("alerts.secret: %w", err)
		}
		secret, err := os.ReadFile(a.Secret)
		if err != nil {
			return fmt.Errorf("alerts.secret: %w; openssl rand -hex 32 makes one", err)
		}
		site := "" // without pages there is no address to look at
		if origins := s.site().Origins; len(origins) > 0 {
			site = origins[0]
		}
		if c.Hook, err = alerts.NewHook(a.Webhook, string(secret), site); err != nil {
			return fmt.Errorf("alerts.webhook: %w", err)
		}
	}
	s.alerts, err = alerts.New(ctx, c)
	return err
}
