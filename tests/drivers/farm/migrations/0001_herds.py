from django.db import migrations, models


def fill(apps, editor):
    apps.get_model("farm", "Herd").objects.using(editor.connection.alias).create(name="first")


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Herd",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=40, unique=True)),
            ],
        ),
        # Statements on rows in the same transaction as those on tables.
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
