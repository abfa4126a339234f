DROP TABLE flag_leads, flags, follow_ups, lead_contacts, follow_up_tenants, business_classification_patterns, ai_feedback;
