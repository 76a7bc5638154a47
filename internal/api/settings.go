package api

import (
	"net/http"
	"strconv"

	"github.com/strongroom/strongroom/internal/resource"
)

// Settings of a managed HSM (contract §12). Their values are texts.

const maxSetting = 1 << 10

func settingRoutes() []route {
	return []route{
		local(resource.SettingList, "GET", "/settings", 200, 0, listSettings),
		local(resource.SettingGet, "GET", "/settings/{name}", 200, 0, getSetting),
		local(resource.SettingUpdate, "PATCH", "/settings/{name}", 200, maxSetting, updateSetting),
	}
}

type setting struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

type settingList struct {
	Settings []setting `json:"settings"`
}

func showSetting(s resource.Setting) setting {
	return setting{Name: s.Name, Type: "boolean", Value: strconv.FormatBool(s.Value)}
}

func listSettings(q *request) (response, error) {
	found, err := q.h.cfg.Resources.ListSettings(q.ctx, q.actor(), q.vault)
	return answered(http.StatusOK, found, err, func(found []resource.Setting) settingList {
		out := settingList{Settings: make([]setting, len(found))}
		for i, s := range found {
			out.Settings[i] = showSetting(s)
		}
		return out
	})
}

func getSetting(q *request) (response, error) {
	s, err := q.h.cfg.Resources.GetSetting(q.ctx, q.actor(), q.vault, q.params.name)
	return answered(http.StatusOK, s, err, showSetting)
}

func updateSetting(q *request) (response, error) {
	body, err := q.localBody(resource.SettingUpdate, "/")
	if err != nil {
		return response{}, err
	}
	value, err := body.Required("value")
	if err != nil {
		return response{}, err
	}
	s, err := q.h.cfg.Resources.UpdateSetting(q.ctx, q.actor(), q.vault, q.params.name, value)
	return answered(http.StatusOK, s, err, showSetting)
}
